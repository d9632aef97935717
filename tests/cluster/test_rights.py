"""What the installed programs may do, by the API server's own word."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.cluster.mesh import NAMESPACE as SYSTEM

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMESPACE = "rights-test"
CONTROLLER, ZTUNNEL, AGENT = f"{SYSTEM}/pywaypoint-controller", f"{SYSTEM}/ztunnel", f"{SYSTEM}/pywaypoint-agent"
WAYPOINT, WORKLOAD = f"{NAMESPACE}/waypoint", f"{NAMESPACE}/default"

MAY = {
    CONTROLLER: """
        watch gateways.gateway.networking.k8s.io *
        patch gateways/status.gateway.networking.k8s.io default
        create deployments.apps default
        patch serviceaccounts default
        create clusterrolebindings.rbac.authorization.k8s.io -
        patch clusterrolebindings.rbac.authorization.k8s.io -/pywaypoint-waypoint
        bind clusterroles.rbac.authorization.k8s.io -/pywaypoint-waypoint
        patch leases.coordination.k8s.io pywaypoint-system/pywaypoint-controller
        get secrets pywaypoint-system/cacerts
        get secrets pywaypoint-system/pywaypoint-ca
        create tokenreviews.authentication.k8s.io -
        patch configmaps default/istio-ca-root-cert
    """,
    ZTUNNEL: """
        watch pods *
        watch authorizationpolicies.security.istio.io *
    """,
    AGENT: """
        watch pods *
        patch pods/status default/any
        watch daemonsets.apps pywaypoint-system/pywaypoint-agent
    """,
    WAYPOINT: """
        watch services *
        watch httproutes.gateway.networking.k8s.io *
        list configmaps istio-system/istio
    """,
}

NOBODY_MAY = """
    list secrets *
    list secrets pywaypoint-system
    get secrets default/any
    get secrets kube-system/any
    create pods default
    patch pods default/any
    delete pods default/any
    create pods/exec default/any
    get pods/exec default/any
    create pods/portforward default/any
    create pods/attach default/any
    patch pods/ephemeralcontainers default/any
    get pods/log default/any
    get nodes/proxy -/node-a
    create nodes/proxy -/node-a
    get nodes/metrics -/node-a
    patch nodes -/node-a
    patch nodes/status -/node-a
    patch namespaces -/default
    create serviceaccounts/token default/any
    impersonate users -/any
    impersonate groups -/system:masters
    impersonate serviceaccounts default/any
    create roles.rbac.authorization.k8s.io default
    create rolebindings.rbac.authorization.k8s.io default
    create clusterroles.rbac.authorization.k8s.io -
    patch clusterroles.rbac.authorization.k8s.io -/pywaypoint-waypoint
    escalate clusterroles.rbac.authorization.k8s.io -/pywaypoint-waypoint
    bind clusterroles.rbac.authorization.k8s.io -/cluster-admin
    bind roles.rbac.authorization.k8s.io kube-system/any
    patch clusterrolebindings.rbac.authorization.k8s.io -/any
    delete clusterrolebindings.rbac.authorization.k8s.io -/pywaypoint-waypoint
    patch leases.coordination.k8s.io pywaypoint-system/any
    patch leases.coordination.k8s.io kube-system/pywaypoint-controller
    patch configmaps kube-system/coredns
    delete configmaps default/any
    patch gateways.gateway.networking.k8s.io default/any
    patch authorizationpolicies.security.istio.io default/any
    delete deployments.apps default/any
    patch daemonsets.apps pywaypoint-system/pywaypoint-agent
    patch customresourcedefinitions.apiextensions.k8s.io -/any
    create mutatingwebhookconfigurations.admissionregistration.k8s.io -
    create certificatesigningrequests.certificates.k8s.io -
    * * *
"""

ONLY_THE_CONTROLLER_MAY = """
    get secrets pywaypoint-system/pywaypoint-ca
    create secrets pywaypoint-system
    create deployments.apps default
    patch deployments.apps pywaypoint-system/pywaypoint-controller
    create services default
    create serviceaccounts default
    create configmaps default
    list configmaps *
    create clusterrolebindings.rbac.authorization.k8s.io -
    create tokenreviews.authentication.k8s.io -
    get leases.coordination.k8s.io pywaypoint-system/pywaypoint-controller
    patch gateways/status.gateway.networking.k8s.io default/any
"""


def question(account: str, line: str) -> dict[str, Any]:
    """A SubjectAccessReview. A line is a verb, a resource, and where: `NAMESPACE[/NAME]`, with `*` for all namespaces
    and `-` for objects of the cluster."""
    verb, what, where = line.split()
    path, _, group = what.partition(".")
    resource, _, subresource = path.partition("/")
    namespace, _, name = where.partition("/")
    asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name}
    asked["namespace"] = "" if namespace in ("*", "-") else namespace
    user = f"system:serviceaccount:{account.replace('/', ':')}"
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{account.partition('/')[0]}"]
    spec = {"user": user, "groups": groups, "resourceAttributes": asked}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def allowed(account: str, text: str) -> list[str]:
    """Those of the lines that the account may do."""
    lines = lines_of(text)
    reviews = {"apiVersion": "v1", "kind": "List", "items": [question(account, line) for line in lines]}
    answers = kubectl("create", "-f", "-", "-o", r'jsonpath={.status.allowed}{"\n"}', given=reviews).split()
    return [line for line, answer in zip(lines, answers, strict=True) if answer == "true"]


@pytest.fixture(scope="module", autouse=True)
def waypoint() -> Iterator[None]:
    """A namespace with a Gateway, whose waypoint the controller has given its role."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    kubectl("create", "namespace", NAMESPACE)
    listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
    try:
        gateway = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "pywaypoint", "listeners": listeners},
        }
        kubectl("apply", "-f", "-", given=gateway)
        # A waypoint without its role would not become ready.
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.parametrize("account", MAY)
def test_it_may_do_what_it_does(account: str) -> None:
    assert allowed(account, MAY[account]) == lines_of(MAY[account])


@pytest.mark.parametrize("account", [CONTROLLER, ZTUNNEL, AGENT, WAYPOINT, WORKLOAD])
def test_it_may_do_nothing_of_what_nobody_needs(account: str) -> None:
    assert allowed(account, NOBODY_MAY) == []


@pytest.mark.parametrize("account", [ZTUNNEL, AGENT, WAYPOINT, WORKLOAD])
def test_the_controllers_rights_are_its_own(account: str) -> None:
    assert allowed(account, ONLY_THE_CONTROLLER_MAY) == []
    assert allowed(CONTROLLER, ONLY_THE_CONTROLLER_MAY) == lines_of(ONLY_THE_CONTROLLER_MAY)


def test_a_workload_may_read_nothing() -> None:
    reads = MAY[WAYPOINT] + MAY[ZTUNNEL]

    assert allowed(WORKLOAD, reads) == []


@pytest.mark.parametrize(("role", "is_allowed"), [("pywaypoint-waypoint", True), ("cluster-admin", False)])
def test_the_controller_can_bind_no_role_but_the_waypoints(role: str, is_allowed: bool) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "rights-test"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "default"}],
    }
    user = f"--as=system:serviceaccount:{CONTROLLER.replace('/', ':')}"

    try:
        said = kubectl("create", "--dry-run=server", user, "-f", "-", given=binding)
    except KubectlFailed as error:
        said = str(error)

    assert ("attempting to grant RBAC permissions not currently held" in said) is not is_allowed
