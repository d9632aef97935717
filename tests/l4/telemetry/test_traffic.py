from l4.telemetry.metrics import TCP_LABELS, MeshMetrics, histogram
from l4.telemetry.metrics import counter as counted
from l4.telemetry.traffic import Edge, traffic

LABELS = (*TCP_LABELS[:-2], "response_code", "grpc_response_status", *TCP_LABELS[-2:])
REQUESTS = counted("istio_requests", "Requests.", LABELS)
DURATION = histogram("istio_request_duration_milliseconds", "Durations.", LABELS)


def _values(**different: str) -> tuple[str, ...]:
    values = {
        "reporter": "waypoint",
        "source_workload": "productpage-v1",
        "source_workload_namespace": "default",
        "source_principal": "spiffe://cluster.local/ns/default/sa/productpage",
        "destination_service": "reviews.default.svc.cluster.local",
        "destination_workload": "reviews-v1",
        "destination_workload_namespace": "default",
        "request_protocol": "http",
        "response_flags": "-",
        "connection_security_policy": "mutual_tls",
        "response_code": "200",
    }
    return tuple({**values, **different}.get(name, "") for name in LABELS)


def _metrics() -> MeshMetrics:
    return MeshMetrics("proxy", "1.0", (REQUESTS, DURATION))


def _edges(metrics: MeshMetrics) -> tuple[Edge, ...]:
    return traffic(metrics.snapshot(), 7.0).edges


def test_requests_of_one_caller_and_workload_are_one_edge_with_its_results() -> None:
    metrics = _metrics()
    for values, count, milliseconds in (
        (_values(), 9, 4.0),
        (_values(response_code="503", response_flags="UH"), 1, 700.0),
    ):
        metrics.of(REQUESTS).labels(values).add(count)
        metrics.of(DURATION).labels(values).observe(milliseconds)

    (edge,) = _edges(metrics)

    assert (edge.source.workload, edge.service, edge.destination.workload) == (
        "productpage-v1",
        "reviews.default.svc.cluster.local",
        "reviews-v1",
    )
    assert edge.results == {"200 - -": 9, "503 - UH": 1}
    assert sum(edge.durations) == 2
    assert (edge.protocol, edge.security) == ("http", "mutual_tls")


def test_another_workload_or_another_kind_of_connection_is_another_edge() -> None:
    metrics = _metrics()
    for values in (_values(), _values(destination_workload="reviews-v2"), _values(connection_security_policy="none")):
        metrics.of(REQUESTS).labels(values).add()

    assert [(it.destination.workload, it.security) for it in _edges(metrics)] == [
        ("reviews-v1", "mutual_tls"),
        ("reviews-v2", "mutual_tls"),
        ("reviews-v1", "none"),
    ]


def test_connections_tell_bytes_and_how_many_were_opened_and_closed() -> None:
    metrics = _metrics()
    values = tuple(it for it, name in zip(_values(request_protocol="tcp"), LABELS, strict=True) if name in TCP_LABELS)
    metrics.connections_opened.labels(values).add(3)
    metrics.connections_closed.labels(values).add(2)
    metrics.received_bytes.labels(values).add(100)
    metrics.sent_bytes.labels(values).add(2000)

    (edge,) = _edges(metrics)

    assert (edge.opened, edge.closed, edge.received, edge.sent) == (3, 2, 100, 2000)
    assert (edge.results, edge.durations) == ({}, [])


def test_other_metrics_are_no_traffic() -> None:
    metrics = _metrics()
    metrics.count_refusal("too_many_connections")

    found = traffic(metrics.snapshot(), 7.0)

    assert (found.edges, found.seconds) == ((), 7.0)
