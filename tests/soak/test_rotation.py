"""Certificates and roots change for two minutes under load, as often as the process looks at its files."""

import os
from pathlib import Path

import pytest

from tests.e2e.test_rotation import rotate
from tests.kit.aio import run

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
def test_no_request_fails_in_two_minutes_of_rotations(tmp_path: Path) -> None:
    rotation = run(rotate(tmp_path, SECONDS), SECONDS + 60)

    assert rotation.outcomes.keys() == {"HTTP/1.1 200 OK\r\n"}
    assert rotation.rotations > SECONDS / 10
