"""The program as an operator starts it, with `explain` from the command line and `replay` of its recording."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import waypoint_process


def waypoint(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waypoint.cli", *map(str, args)], capture_output=True, text=True, timeout=30
    )


def test_a_running_waypoint_is_asked_and_what_it_recorded_is_decided_again(tmp_path: Path) -> None:
    recording = tmp_path / "heads"

    async def scenario() -> subprocess.CompletedProcess[str]:
        async with waypoint_process(tmp_path, WAYPOINT_RECORD=str(recording)) as it, origin(it.pod, answering()):
            reader, writer = await it.open()
            writer.write(b"GET /a?token=hunter2 HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            question = ("--admin", f"{it.ip}:15000", "--from", "default/client", "--to", "app", "--path", "/a")
            return await asyncio.to_thread(waypoint, "explain", *question)

    told = run(scenario())
    again = waypoint("replay", "--recorded", recording, "--resources", tmp_path / "mesh.yaml", "--fail-on-change")

    assert told.stdout.startswith("GET app/a from default/client → default route → app.default:9080\n")
    assert "hunter2" not in recording.read_text()
    assert again.stdout == "1 request replayed: nothing would change, 1 unchanged\n"
    assert again.returncode == 0
