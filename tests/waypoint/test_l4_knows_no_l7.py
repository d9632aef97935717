"""L4 is a ztunnel, and the base of a waypoint. It contains nothing that only a waypoint does with requests.

Three proofs: the words of L4's source, the modules that a ztunnel does not need, and the operator ports of a running
ztunnel. The tests of L4's lists of settings and metrics show that the lists contain nothing of a waypoint's.
"""

import re
from pathlib import Path

import grimp

import l4
from l4.config.settings import fields_of
from l4.discovery import kubernetes
from l4.telemetry import metrics as l4_metrics
from l4.ztunnel.metrics import METRICS
from tests.l4.ztunnel.test_cli import running
from waypoint.config.kinds import KINDS
from waypoint.settings import OWN

ROOT = Path(l4.__file__).parent
KINDS_OF_WAYPOINTS = {kind for _, kind in KINDS} - {kind for _, kind in kubernetes.KINDS}
WORDS = (
    *(rf"\b{kind}" for kind in sorted(KINDS_OF_WAYPOINTS)),
    r"(?i:rate.?limit)",
    r"(?i:\bretr(?:y|ies)\b)",
    r"(?i:mirror)",
    r"(?i:\bcors\b)",
    r"(?i:\bjw(?:t|ks)\b)",
    r"(?i:fault.?(?:injection|plan|policy))",
    r"(?i:external.?auth)",
    r"(?i:outlier|\bejection)",
    r"(?i:circuit)",
    r"(?i:cookie)",
    r"(?i:websocket)",
    r"(?i:\bgrpc)",
    r"(?i:traceparent|opentelemetry)",
)
EXCEPTIONS = {
    ("config/kinds.py", "RequestAuthentication"): "keeps somebody out, so that a misspelled one must be noticed",
    ("config/folder.py", "ConfigMap"): "how a folder is mounted",
    ("configuration.py", "ConfigMap"): "which one of them a waypoint's kinds are about",
    ("__init__.py", "grpc"): "the settings of the library that asks an authority and a discovery server",
    ("control_plane.py", "grpc"): "how an authority and a discovery server are asked",
    ("discovery/endpoints.py", "mirror"): "Kubernetes copies Endpoints into EndpointSlices",
    ("discovery/kubernetes.py", "ConfigMap"): "a kind of Kubernetes' core group, of which L4 knows all kinds",
    ("discovery/objects.py", "mirrors"): "Kubernetes copies Endpoints into EndpointSlices",
    ("discovery/ports.py", "grpc"): "a port's protocol, as its Service declares it",
    ("discovery/workload.py", "grpc"): "a port's protocol, as its Service declares it",
    ("hbone/connect.py", "traceparent"): "a header of CONNECT, which L4 passes on unread",
    ("hbone/errors.py", "retry"): "whether a tunnel's user may open another one",
    ("http2/hpack_encoder.py", "cookie"): "RFC 7541 section 7.1.3: credentials are never indexed",
    ("http2/hpack_table.py", "cookie"): "RFC 7541's table of common headers",
    ("http2/hpack_table.py", "retry"): "RFC 7541's table of common headers",
    ("identity/istio_ca.py", "grpc"): "how an authority is asked for certificates",
    ("kubernetes/client.py", "cookie"): "the client of API servers keeps none",
    ("kubernetes/client.py", "retry"): "how long an API server wants to be left alone",
    ("kubernetes/client.py", "websocket"): "how an API server forwards ports",
    ("kubernetes/port_forward.py", "websocket"): "how an API server forwards ports",
    ("net/tasks.py", "retry"): "a background loop that failed is started again",
    ("telemetry/process_log.py", "rate-limit"): "of lines of the log",
    ("xds/address_messages.py", "grpc"): "a port's protocol, as its Service declares it",
    ("xds/client.py", "grpc"): "how a discovery server is asked",
    ("xds/wire_values.py", "grpc"): "a port's protocol, as its Service declares it",
    ("ztunnel/app.py", "grpc"): "how an authority is asked for certificates",
    ("ztunnel/app.py", "retry"): "a pod's listener that could not be opened is tried again",
    ("ztunnel/pods.py", "retry"): "a pod's listener that could not be opened is tried again",
}


def words_of(path: Path) -> set[str]:
    return {match[0].removesuffix("s").lower() for match in re.finditer("|".join(WORDS), path.read_text())}


def test_the_source_of_l4_speaks_of_nothing_that_only_a_waypoint_does() -> None:
    found = {(str(path.relative_to(ROOT)), word) for path in sorted(ROOT.rglob("*.py")) for word in words_of(path)}
    excepted = {(path, word.removesuffix("s").lower()) for path, word in EXCEPTIONS}

    assert found - excepted == set(), "declare it in the waypoint, beside its feature"
    assert excepted - found == set(), "exceptions that are needed no more"


ONLY_FOR_WAYPOINTS = {
    "l4.kubernetes.lease": "which of several controllers leads",
    "l4.net.cpus": "how many CPUs a process may use",
    "l4.net.client_hello": "which server a TLS connection is for, without ending it",
    "l4.net.passing": "connections for another process",
    "l4.net.pressure": "how much memory is left",
    "l4.net.shared_memory": "memory of several processes",
    **dict.fromkeys(
        (
            "l4.xds.address_messages",
            "l4.xds.applying_policies",
            "l4.xds.authorization_messages",
            "l4.xds.description",
            "l4.xds.offer",
            "l4.xds.subscription",
        ),
        "what a discovery server tells ztunnels, which the controller is",
    ),
    **dict.fromkeys(
        ("l4.xds.joined_mesh", "l4.xds.joined_source"),
        "services by objects and workloads by discovery; a ztunnel takes both from one side",
    ),
}


def test_l4_has_no_module_that_only_a_waypoint_needs_but_for_what_is_about_connections() -> None:
    graph = grimp.build_graph("l4")
    modules = {it for it in graph.find_descendants("l4") if not graph.find_children(it)}
    needed = graph.find_upstream_modules("l4.ztunnel", as_package=True) | graph.find_descendants("l4.ztunnel")

    assert modules - needed == ONLY_FOR_WAYPOINTS.keys()


def test_a_running_ztunnel_shows_and_reads_only_its_own(tmp_path: Path) -> None:
    variables = {it.name.upper(): "what no setting may be" for section in OWN for it in fields_of(section)}

    with running(tmp_path, **variables) as ztunnel:
        shown = set(re.findall(r"^# TYPE (\S+)", ztunnel.metrics_text(), re.MULTILINE))

    own = {f"{it.name}_total" if it.kind == "counter" else it.name for it in (*l4_metrics.METRICS, *METRICS)}
    assert {name for name in shown if not name.startswith("process_")} == own
