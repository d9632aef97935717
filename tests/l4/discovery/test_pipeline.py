"""From a source's answers to the registry: incremental where possible, rebuilt after a failure."""

import pytest

from l4.config import manifest
from l4.config.source import Changes, Documents
from l4.discovery.index import Index
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovery

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {clusterIP: 10.1.0.1, ports: [{port: 80}], selector: {app: a}}
"""


def pod(ip: str) -> str:
    return f"{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: a}}}}, status: {{podIP: {ip}}}}}"


def documents(*texts: str) -> Documents:
    found, problems = manifest.parse("a.yaml", "\n---\n".join(texts).encode())
    assert not problems
    return Documents(tuple(sorted(found, key=lambda it: it.key)))


def test_a_pod_that_changes_is_followed() -> None:
    it = Discovery(KINDS, Mesh())
    first = it.take(documents(SERVICE, pod("10.0.0.1")))

    second = it.take(Changes(documents(pod("10.0.0.2")).documents))

    assert first.update is None
    assert second.update is not None
    assert second.update.registry is second.registry
    assert [moved.after and moved.after.addresses for moved in second.update.workloads] == [("10.0.0.2",)]
    assert first.registry.workload_at("10.0.0.1") is not None
    assert second.registry.workload_at("10.0.0.1") is None


def test_after_a_failure_everything_is_indexed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Discovery(KINDS, Mesh())
    it.take(documents(SERVICE, pod("10.0.0.1")))
    changed = documents(SERVICE, pod("10.0.0.2"))
    with monkeypatch.context() as patch:
        patch.setattr(Index, "update", lambda self, changes: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            it.take(Changes(changed.documents))

    after = it.take(changed)

    assert after.update is None
    assert after.registry.workload_at("10.0.0.2") is not None
    (service,) = after.registry.services.values()
    assert [endpoint.workload.addresses for endpoint in service.endpoints] == [("10.0.0.2",)]


def test_after_a_failure_every_object_may_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Discovery(KINDS, Mesh())
    it.take(documents(SERVICE))
    policy = (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: deny}, spec: {action: DENY}}"
    )
    with monkeypatch.context() as patch:
        patch.setattr(Index, "update", lambda self, changes: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            it.take(documents(SERVICE, policy))

    after = it.take(documents(SERVICE, policy))

    assert after.taken.changes is None
    assert after.has_other_changes
