"""The table of scenarios, and what a setup means to ours. What it means to both is in test_bench.py."""

from dataclasses import replace

import pytest

from bench import ours, setups, tokens
from bench.scenarios import SCENARIOS, groups
from bench.setups import BARE, FULL, Setup
from l4.config import manifest
from l4.config.resources import Decoder
from l4.discovery.index import Index
from l4.discovery.mesh import Mesh
from waypoint.config.compile import Compilation
from waypoint.config.compile_options import CompileOptions
from waypoint.config.kinds import KINDS


def test_names_and_titles_are_unique() -> None:
    assert len({it.name for it in SCENARIOS}) == len(SCENARIOS)
    assert len({it.title for it in SCENARIOS}) == len(SCENARIOS)


def test_scenarios_of_one_setup_share_processes_but_fresh_and_counted_ones_have_their_own() -> None:
    found = [[it.name for it in group] for group in groups(SCENARIOS)]

    first = found[0]
    assert {"http1-1", "http1-256", "grpc", "rate-500"} <= set(first)
    assert ["memory"] in found
    assert ["instructions-1", "instructions-16"] in found
    assert sum(map(len, found)) == len(SCENARIOS)


SETUPS = {"full": FULL, "bare": BARE, **{it.name: it.setup for it in SCENARIOS if it.setup}}


@pytest.mark.parametrize("name", ["full", "bare", "tokens", "mirror", "routes-1000", "rules-100", "start"])
def test_ours_takes_every_setup_without_a_problem(name: str) -> None:
    setup = SETUPS[name]

    compilation = compiled(setup)

    destination = compilation.snapshot.destinations["app.default.svc.cluster.local", setups.HTTP_PORT]
    assert compilation.snapshot.problems == ()
    assert len({it.rule.name for it in destination.routes.routes}) == setup.routes


def test_another_version_is_another_configuration() -> None:
    assert compiled(FULL, 1).snapshot.version != compiled(FULL, 2).snapshot.version


def compiled(setup: Setup, version: int = 0) -> Compilation:
    text = ours.manifests(setup, endpoint="127.0.0.9", jwks=tokens.issue()[1], version=version)
    documents, problems = manifest.parse("mesh.yaml", text.encode())
    decoded = Decoder(KINDS).decode(documents)
    assert (problems, decoded.problems, decoded.ignored) == ([], (), {})
    registry = Index(decoded.resources, Mesh()).registry
    return Compilation(decoded.resources, registry, CompileOptions(("default", "waypoint")))


def test_a_setup_is_known_by_its_features() -> None:
    assert replace(FULL) == FULL
    assert replace(FULL, mirror=True) != FULL
