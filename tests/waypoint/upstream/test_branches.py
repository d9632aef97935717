from dataclasses import replace

import pytest

from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Followed, Follows, TunnelProtocol, Workload
from policies.attributes import ClusterName, Identity
from policies.upstream_tls import UpstreamTls
from waypoint.config.snapshot import ClusterConfig, ServiceLabels
from waypoint.errors import NoHealthyEndpoint, RouteNotFound, UpstreamOverflow
from waypoint.upstream import branches
from waypoint.upstream.branches import IDLE_SECONDS, MAX_BRANCHES, Branches
from waypoint.upstream.cluster import Cluster

NOBODY = Registry()
OUTSIDE = Workload(
    uid="outside",
    name="outside",
    namespace="default",
    addresses=(),
    identity=Identity("cluster.local", "default", "default"),
    tunnel_protocol=TunnelProtocol.NONE,
    node="",
    is_healthy=True,
    workload_name="outside",
)


class Setting:
    """`now` is the time; `ended` are the branches that were let go."""

    def __init__(self, by: Follows, tls: UpstreamTls | None = None) -> None:
        followed = Followed(by, "*.example.com", ("10.0.0.0/8", "fd00::1"), {80: 8080}, OUTSIDE)
        config = ClusterConfig(
            ClusterName("all"), ServiceLabels("*.example.com"), 80, AppProtocol.HTTP, (), followed=followed, tls=tls
        )
        self.now = 0.0
        self.ended: list[Cluster] = []
        self.trunk = Cluster(config)
        begin = lambda config: Cluster(config, trunk=self.trunk)  # noqa: E731
        self.branches = Branches(config, begin, Cluster.reconcile, self.ended.append, lambda: self.now)

    def host(self, name: str) -> Cluster:
        return self.branches.at("10.0.0.1", name.encode(), NOBODY)


def test_each_host_has_one_branch_that_looks_it_up() -> None:
    it = Setting(Follows.HOST)

    one = it.host("one.example.com")

    assert it.host("ONE.example.com:80") is one
    assert it.host("two.example.com") is not one
    assert [(named.name, named.ports) for named in one.config.names] == [("one.example.com", {80: 8080})]
    assert one.config.name == it.trunk.config.name


def test_branches_count_against_the_same_bounds() -> None:
    it = Setting(Follows.HOST)

    assert it.host("one.example.com").circuit is it.host("two.example.com").circuit is it.trunk.circuit
    assert it.host("one.example.com").retries is it.trunk.retries


@pytest.mark.parametrize("host", ["example.org", "example.com", "10.0.0.1", ""])
def test_a_host_that_is_not_meant_has_none(host: str) -> None:
    it = Setting(Follows.HOST)

    with pytest.raises(RouteNotFound):
        it.host(host)
    assert len(it.branches) == 0


def test_each_address_has_one_branch() -> None:
    it = Setting(Follows.ADDRESS)

    one = it.branches.at("10.0.0.1", b"a.example.com", NOBODY)

    assert it.branches.at("10.0.0.1", b"whatever", NOBODY) is one
    assert [str(endpoint) for endpoint in one.config.endpoints] == ["10.0.0.1:8080"]
    assert [str(live.endpoint) for live in it.branches.at("fd00::1", b"", NOBODY).endpoints] == ["[fd00::1]:8080"]


@pytest.mark.parametrize("called", ["11.0.0.1", "fd00::2", "a.example.com"])
def test_an_address_that_is_not_meant_has_none(called: str) -> None:
    with pytest.raises(NoHealthyEndpoint):
        Setting(Follows.ADDRESS).branches.at(called, b"", NOBODY)


def test_a_workload_at_the_address_that_takes_tunnels_gets_one() -> None:
    it = Setting(Follows.ADDRESS)
    pod = replace(OUTSIDE, uid="pod", addresses=("10.0.0.1",), tunnel_protocol=TunnelProtocol.HBONE)

    before = it.branches.at("10.0.0.1", b"", NOBODY)
    after = it.branches.at("10.0.0.1", b"", Registry.build((), [pod]))

    assert before.config.endpoints[0].identity is None
    assert after.config.endpoints[0].identity == pod.identity


@pytest.mark.parametrize(
    ("by", "own", "asked"),
    [
        (Follows.HOST, "*.example.com", "one.example.com"),
        (Follows.ADDRESS, "*.example.com", "one.example.com"),
        (Follows.HOST, "given.example.com", "given.example.com"),
    ],
)
def test_tls_asks_for_the_host_unless_a_name_is_given(by: Follows, own: str, asked: str) -> None:
    it = Setting(by, UpstreamTls(own))

    tls = it.host("one.example.com").config.tls

    assert tls is not None
    assert tls.asked_name == asked
    assert tls == UpstreamTls(own)  # nothing is loaded anew for it


def test_a_branch_that_nobody_uses_goes() -> None:
    it = Setting(Follows.HOST)
    one, two = it.host("one.example.com"), it.host("two.example.com")
    it.now = IDLE_SECONDS / 2
    assert it.host("two.example.com") is two

    it.now = IDLE_SECONDS
    it.branches.sweep()

    assert it.ended == [one]
    assert list(it.branches) == [two]


def test_there_is_a_bound_and_room_is_made_by_who_was_used_longest_ago(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(branches, "MAX_BRANCHES", 3)
    it = Setting(Follows.HOST)
    first = it.host("a.example.com")
    for name in "bc":
        it.host(f"{name}.example.com")

    with caplog.at_level("WARNING"), pytest.raises(UpstreamOverflow):
        it.host("d.example.com")
    assert "all: 3 hosts are in use at once" in caplog.text
    it.now = 60.0
    it.host("d.example.com")

    assert it.ended == [first]
    assert MAX_BRANCHES == 1024


def test_a_branch_in_use_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "MAX_BRANCHES", 1)
    it = Setting(Follows.ADDRESS)
    it.branches.at("10.0.0.1", b"", NOBODY).endpoints[0].active = 1

    it.now = 2 * IDLE_SECONDS
    it.branches.sweep()

    assert it.ended == []
    with pytest.raises(UpstreamOverflow):
        it.branches.at("10.0.0.2", b"", NOBODY)


def test_closing_lets_all_of_them_go() -> None:
    it = Setting(Follows.HOST)
    it.host("a.example.com")

    it.branches.close()

    assert (len(it.ended), len(it.branches)) == (1, 0)


@pytest.mark.parametrize("by", list(Follows))
def test_another_configuration_changes_the_branches_and_keeps_them(by: Follows) -> None:
    it = Setting(by)
    one = it.host("one.example.com")

    it.branches.follow(replace(it.trunk.config, tls=UpstreamTls("*.example.com")))

    tls = one.config.tls
    assert it.ended == []
    assert list(it.branches) == [one]
    assert tls is not None
    assert [live.endpoint.tls for live in one.endpoints] == [tls] * len(one.config.endpoints)
