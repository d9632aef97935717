"""What is remembered of connections between the same ends, and for how long."""

from dataclasses import replace

from l4.hbone.errors import ConnectFailed
from l4.telemetry.expiry import Expiry
from l4.telemetry.metrics import CONNECTIONS_CLOSED, CONNECTIONS_OPENED, MeshMetrics
from l4.ztunnel.ends import MAX_ENDS, Ends, KnownEnds
from l4.ztunnel.traffic import Flow, Traffic
from policies.balancing.endpoint import WorkloadLabels
from tests.kit.workloads import pod, service

CLIENT, SERVER = pod("client", "10.0.0.1"), pod("server", "10.0.0.2")
WEB = service("web", "10.1.0.1", ports={80: 8080}, pods=[SERVER])
SECONDS = 900.0


def find(known: KnownEnds, source: WorkloadLabels = CLIENT.metric_labels, name: str = "client") -> Ends:
    identities = CLIENT.identity, SERVER.identity
    to = SERVER.metric_labels
    return known.find(CLIENT.uid, "outbound", source, name, identities[0], to, "server", identities[1], WEB, True)


def test_the_same_ends_are_found_again_until_they_are_forgotten() -> None:
    known = KnownEnds()
    first = find(known)
    assert find(known) is first

    known.forget()

    assert find(known) is not first
    assert find(known).labels == first.labels


def test_ends_that_differ_in_anything_have_their_own() -> None:
    known = KnownEnds()
    to = SERVER.metric_labels
    found = [
        known.find(CLIENT.uid, direction, source, "client", CLIENT.identity, to, "server", SERVER.identity, its, is_tls)
        for direction in ("outbound", "inbound")
        for source in (CLIENT.metric_labels, SERVER.metric_labels)
        for its in (WEB, None)
        for is_tls in (True, False)
    ]

    assert len({(it.labels, it.source_text, it.destination_text, it.direction) for it in found}) == len(found)


def test_the_number_of_ends_is_bounded_and_none_is_taken_for_another() -> None:
    known = KnownEnds()
    first = find(known)

    for number in range(MAX_ENDS):  # nobody else keeps these labels, so that another object could get their id
        found = find(known, replace(CLIENT.metric_labels, workload=f"client-{number}"), f"client-{number}")
        assert f' src.workload="client-{number}" ' in found.source_text
        assert f"client-{number}" in found.labels

    assert find(known) is not first


def test_the_log_names_both_ends_and_no_name_can_forge_a_field() -> None:
    ends = find(KnownEnds(), name='a" error="b\n')

    assert ends.source_text == (
        r""" src.workload="a' error='b\n" src.namespace="default" """
        'src.identity="spiffe://cluster.local/ns/default/sa/client" src.cluster="Kubernetes"'
    )
    assert ends.destination_text == (
        ' dst.service="web.default.svc.cluster.local" dst.workload="server" dst.namespace="default" '
        'dst.identity="spiffe://cluster.local/ns/default/sa/server" dst.cluster="Kubernetes"'
    )


def test_series_expire_when_their_ends_are_forgotten_and_no_connection_is_open() -> None:
    metrics = MeshMetrics("ztunnel", "test")
    traffic, expiry = Traffic(metrics, None), Expiry(metrics)

    def shown(now: float) -> bool:
        traffic.known.forget()
        assert expiry.look(now, SECONDS)
        return bool(metrics.of(CONNECTIONS_OPENED).snapshot().samples)

    def flow() -> Flow:
        return Flow(find(traffic.known), ("10.0.0.1", 4000), ("10.1.0.1", 80), ("10.0.0.2", 15008), "10.0.0.2:8080")

    traffic.opened(flow()).abort(ConnectFailed("no"))
    open_one = traffic.opened(flow())
    assert [shown(0), shown(SECONDS), shown(2 * SECONDS)] == [True] * 3, "a connection is open"

    open_one.abort(ConnectFailed("no"))

    assert shown(2 * SECONDS + 1)
    del open_one
    assert not shown(3 * SECONDS + 2)
    assert not metrics.of(CONNECTIONS_CLOSED).snapshot().samples
