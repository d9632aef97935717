"""The Gateway API's own conformance suite, against the mesh that is installed in the cluster.

The suite runs as it is published. Around it, this module gives the nodes the echo image that its manifests name, makes
one waypoint in a namespace of its own, and tells the suite which labels bring its namespaces into the mesh.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from l4.version import RELEASE
from tests.cluster import images, kubelets, tools
from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.kubectl import kubectl
from tests.cluster.machine import STATE
from tests.cluster.pki import Pki
from tests.cluster.progress import step

REPORT = Path(__file__).parents[2] / "docs" / "conformance" / f"experimental-{RELEASE}-default-report.yaml"
LOG = STATE / "conformance.log"

ECHO = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1"
PROFILES = ("MESH-HTTP", "MESH-GRPC")
FEATURES = (
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    # Features of gateways by their names, which tests of the mesh need:
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
)
"""The extended features that pywaypoint claims: all that the suite has for a mesh."""

NAMESPACE = "conformance-waypoint"
LABELS = {
    "istio.io/dataplane-mode": "ambient",
    "istio.io/use-waypoint": "waypoint",
    "istio.io/use-waypoint-namespace": NAMESPACE,
}
_NAMESPACES = (NAMESPACE, "gateway-conformance-mesh", "gateway-conformance-mesh-consumer")
_PROJECT = {"organization": "pywaypoint", "project": "pywaypoint", "url": "https://pywaypoint.dev"}
_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the suite said: the result of each test, in its words PASS, FAIL and SKIP."""

    tests: dict[str, str]
    output: str

    def failures(self) -> str:
        """The last messages of each test that failed, without those whose parts failed."""
        failed = set(re.findall(r"--- FAIL: (\S+)", self.output))
        failed = {it for it in failed if not any(other.startswith(f"{it}/") for other in failed)}
        name, messages = "", dict[str, list[str]]()
        for line in self.output.splitlines():
            if begun := re.match(r"=== \w+ +(\S+)", line):
                name = begun[1]
            elif name in failed and re.match(r" +\w+\.go:\d+: ", line):
                messages.setdefault(name, []).append(line)
        return "\n".join("\n".join([it, *said[-3:]]) for it, said in messages.items()) or self.output[-3000:]


def run(report: Path) -> Outcome:
    """Runs all that is claimed, and lets the suite write its report. All that the suite says is in LOG."""
    _import_echo()
    with _waypoint() as version:
        flags = {
            "conformance-profiles": ",".join(PROFILES),
            "supported-features": ",".join(FEATURES),
            "namespace-labels": ",".join(f"{key}={value}" for key, value in LABELS.items()),
            "report-output": str(report),
            **_PROJECT,
            "contact": _PROJECT["url"],
            "version": version,
        }
        command = [str(tools.BIN / "gateway_api.test"), "-test.v", f"-test.timeout={_SECONDS}s"]
        with LOG.open("w") as log:
            subprocess.run(
                [*command, *(f"--{name}={value}" for name, value in flags.items())],
                env=os.environ | {"KUBECONFIG": str(KUBECONFIG)},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS + 60,
                check=False,
            )
    output = LOG.read_text()
    results = re.findall(r"^ {4}--- (\w+): TestConformance/(\w+) ", output, re.MULTILINE)
    return Outcome({name: result for result, name in results}, output)


def _import_echo() -> None:
    with step("give the nodes the suite's echo image"):
        certificate, key = Pki(STATE / "echo").issue("echo", "echo", hosts=["echo"])
        files = {it: tools.ECHO / it for it in ("server", "client")} | {"cert.crt": certificate, "cert.key": key}
        kubelets.import_image(images.of_files(ECHO, files, STATE / "echo.tar", command=("/server",)))


@contextmanager
def _waypoint() -> Iterator[str]:
    """A waypoint that is ready; gives its version."""
    listener = {
        "name": "mesh",
        "port": 15008,
        "protocol": "HBONE",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "waypoint", "namespace": NAMESPACE},
        "spec": {"gatewayClassName": "pywaypoint", "listeners": [listener]},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    with step("make a waypoint"):
        # Of a run before, which may be ending still.
        kubectl("delete", "namespace", *_NAMESPACES, "--ignore-not-found", "--timeout=120s")
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": [namespace, gateway]})
        kubectl("-n", NAMESPACE, "wait", "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        said = kubectl("-n", NAMESPACE, "exec", "deployment/waypoint", "--", "waypoint", "--version")
    try:
        yield re.split("[ ,]", said)[1]
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
