"""Workload attributes from labels, annotations and owners; whole objects: test_kubernetes, test_service_entry."""

import pytest

from l4.discovery.labels import canonical_name, canonical_revision, entry_name, pod_name_and_kind, tunnel_protocol
from l4.discovery.objects import Metadata, OwnerReference
from l4.discovery.workload import TunnelProtocol


def pod(name: str, *owners: OwnerReference, **labels: str) -> Metadata:
    return Metadata(
        name, labels={key.replace("_", "-"): value for key, value in labels.items()}, owner_references=owners
    )


@pytest.mark.parametrize(
    ("meta", "name", "kind"),
    [
        (pod("debug"), "debug", "pod"),
        (pod("reviews-6d8f-x2", pod_template_hash="6d8f"), "reviews", "deployment"),
        (
            pod("reviews-6d8f-x2", OwnerReference("ReplicaSet", "reviews-6d8f", True), pod_template_hash="6d8f"),
            "reviews",
            "deployment",
        ),
        (
            pod("r-9-x", OwnerReference("ReplicaSet", "r-9", True), rollouts_pod_template_hash="9"),
            "r",
            "deployment",
        ),
        (pod("backup-1", OwnerReference("Job", "backup-28391040", True)), "backup", "cronjob"),
        (pod("once-1", OwnerReference("Job", "once", True)), "once", "job"),
        (pod("db-0", OwnerReference("StatefulSet", "db", True)), "db", "pod"),
        (pod("x", OwnerReference("Other", "a"), OwnerReference("StatefulSet", "db", True)), "db", "pod"),
        (pod("x-1", OwnerReference("ReplicationController", "x-7", True), deploymentconfig="x"), "x", "pod"),
    ],
)
def test_a_pod_is_named_after_what_made_it(meta: Metadata, name: str, kind: str) -> None:
    assert pod_name_and_kind(meta) == (name, kind)


def test_a_label_names_the_workload_before_its_owner_does() -> None:
    meta = Metadata("db-0", labels={"service.istio.io/workload-name": "database"})

    assert pod_name_and_kind(meta) == ("database", "pod")


def test_an_entry_is_named_after_its_group_then_its_label() -> None:
    grouped = Metadata("vm-1", annotations={"istio.io/autoRegistrationGroup": "vms"})
    labels = {"service.istio.io/workload-name": "vm"}

    assert entry_name(grouped, labels) == "vms"
    assert entry_name(Metadata("vm-1"), labels) == "vm"
    assert entry_name(Metadata("vm-1"), {}) == "vm-1"


def test_canonical_names_are_the_first_label_that_is_not_empty() -> None:
    labels = {
        "service.istio.io/canonical-name": "",
        "app.kubernetes.io/name": "reviews",
        "app": "other",
        "version": "v2",
    }

    assert canonical_name(labels, "workload") == "reviews"
    assert canonical_name({}, "workload") == "workload"
    assert (canonical_revision(labels), canonical_revision({})) == ("v2", "latest")


@pytest.mark.parametrize(
    ("labels", "annotations", "protocol"),
    [
        ({}, {}, TunnelProtocol.NONE),
        ({}, {"ambient.istio.io/redirection": "enabled"}, TunnelProtocol.HBONE),
        ({}, {"ambient.istio.io/redirection": "pending"}, TunnelProtocol.NONE),
        ({"networking.istio.io/tunnel": "http"}, {}, TunnelProtocol.HBONE),
        ({"networking.istio.io/tunnel": "tcp,http"}, {}, TunnelProtocol.HBONE),
        ({"networking.istio.io/tunnel": "https"}, {}, TunnelProtocol.NONE),
    ],
)
def test_a_tunnel_is_spoken_where_a_ztunnel_accepts_it_or_the_workload_says_so(
    labels: dict[str, str], annotations: dict[str, str], protocol: TunnelProtocol
) -> None:
    assert tunnel_protocol(labels, annotations) is protocol
