"""`mesh.yaml` with NAME.in.yaml laid beside it compiles to NAME.out.yaml.

After a change that is meant: `pytest tests/golden --update-golden`, and read the diff.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.kit.snapshots import compiled, documents_of
from waypoint.config.dump import dump
from waypoint.config.snapshot import UNKNOWN_SERVICE
from waypoint.config.transitions import NEVER

HERE = Path(__file__).parent
CASES = sorted(path.name.removesuffix(".in.yaml") for path in HERE.glob("*.in.yaml"))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def outcome(name: str) -> str:
    """What is compiled, by hostname and without what is empty, so that a case shows what it is about."""
    mesh, case = (HERE / "mesh.yaml").read_text(), (HERE / f"{name}.in.yaml").read_text()
    snapshot = compiled(documents_of(mesh=mesh, case=case))
    by_hostname = {
        key: it
        for key, it in snapshot.destinations.items()
        if it.service.hostname in {key[0], UNKNOWN_SERVICE.hostname}
    }
    dumped = dump(replace(snapshot, destinations=by_hostname))
    dumped.pop("version")  # a hash, which says nothing to a reader
    if snapshot.statuses[0].generation == 0:  # only a case that is about the Gateway gives it one
        dumped["status"] = {key: it for key, it in dumped["status"].items() if not key.startswith("Gateway")}  # type: ignore[attr-defined]
    return yaml.dump(_without_empty(dumped), Dumper=_Dumper, sort_keys=False, width=160)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_documents_decides_nothing(name: str) -> None:
    mesh, case = (HERE / "mesh.yaml").read_text(), (HERE / f"{name}.in.yaml").read_text()
    documents = documents_of(mesh=mesh, case=case)

    assert compiled(reversed(documents)) == compiled(documents)


def _without_empty(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_empty(it) for key, it in value.items() if it not in (None, {}, [], NEVER)}
    return [_without_empty(it) for it in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", CASES)
def test_manifests_compile_to_what_is_written_beside_them(name: str, request: pytest.FixtureRequest) -> None:
    expected = HERE / f"{name}.out.yaml"

    actual = outcome(name)

    if request.config.getoption("--update-golden", default=False):
        expected.write_text(actual)
    assert actual == expected.read_text()
