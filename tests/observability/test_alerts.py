"""The alert rules and their unit tests, by promtool."""

import subprocess
from pathlib import Path

import pytest

from tests.contracts.test_modules import ROOT

pytestmark = pytest.mark.observability

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"


@pytest.mark.parametrize(
    "arguments", [("check", "rules", ALERTS), ("test", "rules", Path(__file__).with_name("alerts.yaml"))]
)
def test_promtool_is_content(arguments: tuple[str | Path, ...]) -> None:
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=30)

    assert ran.returncode == 0, ran.stdout + ran.stderr
