"""The Gateway API's conformance suite passes as a whole, and the published report says what it said."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import conformance
from tests.cluster.conformance import FEATURES, Outcome

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2100)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance") / "report.yaml"


@pytest.fixture(scope="module")
def outcome(report: Path) -> Outcome:
    return conformance.run(report)


def test_the_core_profiles_and_every_claimed_feature_pass(outcome: Outcome) -> None:
    of_mesh = {name: result for name, result in outcome.tests.items() if name.startswith("Mesh")}

    assert len(of_mesh) > 20, outcome.failures()
    assert {name for name, result in outcome.tests.items() if result == "FAIL"} == set(), outcome.failures()
    assert {name for name, result in of_mesh.items() if result == "SKIP"} == set()


def test_the_published_report_is_of_the_same_results(outcome: Outcome, report: Path) -> None:
    published = results(conformance.REPORT)

    assert results(report) == published
    assert all(it["core"]["result"] == "success" for it in published["profiles"])
    (http,) = (it for it in published["profiles"] if it["name"] == "MESH-HTTP")
    assert http["extended"]["result"] == "success"
    assert set(http["extended"]["supportedFeatures"]) == {it for it in FEATURES if it.startswith("Mesh")}


def results(report: Path) -> Any:
    """All of a report but the date and the version, which differ from run to run."""
    content = yaml.safe_load(report.read_text())
    del content["date"], content["implementation"]["version"]
    return content
