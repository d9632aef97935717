from policies.attributes import ClusterName
from waypoint.metrics import waypoint_metrics
from waypoint.upstream.events import ClusterEvent, counted_in


def test_an_event_is_counted_under_envoys_name_and_the_clusters() -> None:
    metrics = waypoint_metrics("1")
    note = counted_in(metrics)

    note(ClusterEvent.RETRY, ClusterName("outbound|80||app"))
    note(ClusterEvent.RETRY, ClusterName("outbound|80||app"))

    text = metrics.render("")[0].decode()
    assert 'cluster_events_total{event="upstream_rq_retry",cluster_name="outbound|80||app"} 2\n' in text
