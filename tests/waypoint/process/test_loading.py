"""What few configurations need is imported in a thread, before one that needs it is in force."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from waypoint.process import loading

ROOT = Path(__file__).parents[3]
OF_REQUESTS = ("authentication", "filters", "http", "inbound", "telemetry", "upstream")
"""The packages whose functions run on the event loop while requests wait."""
AT_START = {"waypoint.telemetry.span_export"}
"""Imported before any request, by a tracer that the environment names."""

CASES = {
    "waypoint.telemetry.grpc_export": "collectors=frozenset({Collector('collector:4317')})",
    "waypoint.telemetry.span_export": "collectors=frozenset({Collector('http://collector:4318', is_grpc=False)})",
    "waypoint.upstream.dns": "clusters={NAME: replace(CLUSTER, names=(NamedEndpoint('a.example', {}, 1, WORKLOAD),))}",
    "policies.jwks": "destinations={('10.0.0.1', 80): replace(DESTINATION, authentication=Authentication(()))}",
    "waypoint.filters.external_auth_grpc": "destinations={('10.0.0.1', 80): "
    "replace(DESTINATION, authorizers={'a': Authorizer('a', None, is_grpc=True)})}",
    "waypoint.filters.rate_limit_service": "policies=(RateLimits('a', (), "
    "service=LimitService('a:80', None, 'a', 1.0, False)),)",
}
PROGRAM = """
import sys
from dataclasses import replace
import waypoint.process.app
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, NamedEndpoint, TunnelProtocol, Workload
from policies.attributes import Identity
from policies.authorizer import Authorizer
from policies.jwt import Authentication
from policies.opaque import OpaqueTable
from policies.rate_limit import LimitService, RateLimits
from policies.route import RouteTable
from policies.telemetry import Collector
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig, Destination, Snapshot
from waypoint.process.loading import load_for
NAME = ("a", 80, "")
IDENTITY = Identity("cluster.local", "default", "a")
WORKLOAD = Workload("a", "a", "default", (), IDENTITY, TunnelProtocol.NONE, "", True, "a")
CLUSTER = ClusterConfig(NAME, UNKNOWN_SERVICE, 80, AppProtocol.HTTP, ())
DESTINATION = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, RouteTable(()), OpaqueTable())
snapshots = Snapshot("", Registry()), Snapshot("", Registry(), {case})
for snapshot in snapshots:
    load_for(snapshot)
    print({module!r} in sys.modules)
"""


@pytest.mark.parametrize("module", CASES)
def test_a_module_is_imported_for_a_configuration_that_needs_it_and_for_no_other(module: str) -> None:
    program = PROGRAM.replace("{case}", CASES[module]).replace("{module!r}", repr(module))

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, cwd=ROOT)

    assert (answer.stdout.split(), answer.stderr) == (["False", "True"], "")


def test_whatever_a_request_or_a_configuration_may_import_late_is_imported_before() -> None:
    late = {
        module
        for package in OF_REQUESTS
        for file in (ROOT / "waypoint" / package).rglob("*.py")
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        for module in imported(node)
    }

    assert late - AT_START == set(CASES) - AT_START
    assert all(f'"{module}"' in Path(loading.__file__).read_text() for module in CASES)


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names):
            return [it.name for it in names]
        case ast.ImportFrom(module=str(module), names=names):
            inside = [f"{module}.{it.name}" for it in names]
            return [it if (ROOT / f"{it.replace('.', '/')}.py").exists() else module for it in inside]
    return []
