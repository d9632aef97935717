import pytest

from l4.config.resources import Decoder, Resources
from tests.kit.snapshots import documents_of
from waypoint.config.kinds import KINDS
from waypoint.config.mentions import Mentions

TEXTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{group: "", kind: Service, name: parent}], rules: [{backendRefs: [{name: backend, port: 80}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: Hosted.default.svc.cluster.local}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {targetRefs: [{kind: Service, group: "", name: target}], rules: [{}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: authz
      envoyExtAuthzGrpc:
        port: 9000
        service:
          asked.default.svc.cluster.local
---
apiVersion: v1
kind: Service
metadata: {name: silent}
spec: {ports: [{port: 80}], selector: {app: selected}}
"""


def resources_of(text: str) -> Resources:
    return Decoder(KINDS).decode(documents_of(mesh=text)).resources


@pytest.mark.parametrize("name", ["parent", "backend", "hosted", "target", "asked"])
def test_whatever_names_a_service_mentions_it(name: str) -> None:
    assert Mentions(resources_of(TEXTS)).may_mean(name)


@pytest.mark.parametrize("name", ["silent", "selected", "default-svc", "back"])
def test_services_and_who_is_behind_them_mention_nothing(name: str) -> None:
    assert not Mentions(resources_of(TEXTS)).may_mean(name)
