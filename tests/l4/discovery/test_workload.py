from dataclasses import replace

from policies.balancing.endpoint import WorkloadLabels
from tests.kit.workloads import pod


def test_metric_labels_are_what_istio_says_of_a_workload() -> None:
    workload = replace(
        pod("reviews-v1-0", "10.0.0.1"),
        workload_name="reviews-v1",
        canonical_name="reviews",
        canonical_revision="v1",
        labels={"app": "books", "version": "one"},
        cluster_id="east",
    )

    assert workload.metric_labels == WorkloadLabels(
        workload="reviews-v1",
        namespace="default",
        principal="spiffe://cluster.local/ns/default/sa/reviews-v1-0",
        app="books",
        version="one",
        canonical_service="reviews",
        canonical_revision="v1",
        cluster="east",
    )


def test_metric_labels_are_one_object_per_workload() -> None:
    workload = pod("a", "10.0.0.1")

    assert workload.metric_labels is workload.metric_labels


def test_without_labels_the_canonical_names_stand_in_and_then_unknown() -> None:
    named = replace(pod("a", "10.0.0.1"), canonical_name="a", canonical_revision="v1").metric_labels
    nameless = replace(pod("a", "10.0.0.1"), workload_name="", canonical_name="").metric_labels

    assert (named.app, named.version) == ("a", "v1")
    assert (nameless.workload, nameless.app, nameless.canonical_service) == ("unknown", "unknown", "unknown")
