"""Controllers for tests, which run on this machine, from this checkout, with no more rights than they need.

Each test has a class, a role and a namespace of its own, all of one name, so that a controller that is installed in the
cluster is not in the way.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.kubectl import kubectl

IMAGE = "localhost/pywaypoint:cluster"


def apply(*objects: object, kubeconfig: Path = KUBECONFIG) -> None:
    given = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl(f"--kubeconfig={kubeconfig}", "apply", "-f", "-", given=given)


def rule(group: str, resources: str, verbs: str, *names: str) -> dict[str, Any]:
    made: dict[str, Any] = {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
    return {**made, "resourceNames": list(names)} if names else made


_ROUTES = "httproutes grpcroutes tcproutes tlsroutes"


def _statuses(resources: str) -> str:
    return " ".join(f"{it}/status" for it in resources.split())


def may(role: str) -> list[dict[str, Any]]:
    """All that the controller needs. The Lease alone is in its own namespace."""
    return [
        rule("gateway.networking.k8s.io", "gatewayclasses gateways", "list watch"),
        rule("gateway.networking.k8s.io", "gatewayclasses/status gateways/status", "patch"),
        rule("", "configmaps namespaces", "list watch"),
        rule("", "serviceaccounts services", "get list watch create patch"),
        rule("", "services/status", "patch"),
        rule("apps", "deployments", "get list watch create patch"),
        rule("autoscaling", "horizontalpodautoscalers", "get list watch create patch"),
        rule("policy", "poddisruptionbudgets", "get list watch create patch"),
        rule("rbac.authorization.k8s.io", "clusterrolebindings", "create"),
        rule("rbac.authorization.k8s.io", "clusterrolebindings", "get list watch patch", role),
        rule("rbac.authorization.k8s.io", "clusterroles", "bind", role),
        rule("coordination.k8s.io", "leases", "get create patch"),
        rule("gateway.networking.k8s.io", f"{_ROUTES} referencegrants", "list watch"),
        rule("gateway.networking.k8s.io", _statuses(_ROUTES), "patch"),
        rule("gateway.networking.x-k8s.io", "xbackendtrafficpolicies", "list watch"),
        rule("gateway.networking.x-k8s.io", "xbackendtrafficpolicies/status", "patch"),
        rule("pywaypoint.dev", "ratelimitpolicies faultpolicies", "list watch"),
        rule("pywaypoint.dev", "ratelimitpolicies/status faultpolicies/status", "patch"),
        rule("security.istio.io", "authorizationpolicies requestauthentications", "list watch"),
        rule("security.istio.io", "authorizationpolicies/status requestauthentications/status", "patch"),
        rule("networking.istio.io", "envoyfilters serviceentries", "list watch"),
        rule("networking.istio.io", "envoyfilters/status", "patch"),
        rule("extensions.istio.io", "trafficextensions wasmplugins", "list watch"),
        rule("extensions.istio.io", "trafficextensions/status wasmplugins/status", "patch"),
    ]


def service_account(
    name: str, folder: Path, rules: list[dict[str, Any]] | None = None, kubeconfig: Path = KUBECONFIG
) -> Path:
    """A kubeconfig with which no more than this can be done. `kubeconfig` is an administrator's."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    account = {"kind": "ServiceAccount", "name": "controller", "namespace": name}
    metadata = {"name": f"{name}-controller"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]}
    apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "controller", "namespace": name}},
        {**rbac, "kind": "ClusterRole", "metadata": metadata, "rules": may(name) if rules is None else rules},
        {**rbac, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [account]},
        kubeconfig=kubeconfig,
    )
    content = yaml.safe_load(kubeconfig.read_text())
    create = ("create", "token", "controller", "-n", name, "--duration=1h")
    token = kubectl(f"--kubeconfig={kubeconfig}", *create).strip()
    content["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


class Process:
    """One controller."""

    def __init__(self, name: str, identity: str, log: Path, kubeconfig: Path) -> None:
        self.identity = identity
        self.log = log
        command = [
            sys.executable, "-m", "waypoint", "controller", "run", f"--image={IMAGE}", "--image-pull-policy=Never",
            "--ca-address=127.0.0.1:15012", f"--controller-name=pywaypoint.dev/{name}", f"--role={name}",
            f"--namespace={name}", f"--identity={identity}", f"--kubeconfig={kubeconfig}",
            "--metrics=127.0.0.1:0", "--readiness=127.0.0.1:0", "--admin=127.0.0.1:0",
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"}
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stderr=file, env=environment)

    def leads(self) -> bool:
        return "this process leads now" in self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._process.wait(20)
