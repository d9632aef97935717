import subprocess
import sys


def test_the_package_runs_as_the_command_does() -> None:
    command = [sys.executable, "-m", "waypoint", "--version"]

    answer = subprocess.run(command, capture_output=True, text=True, timeout=50)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("waypoint ")
