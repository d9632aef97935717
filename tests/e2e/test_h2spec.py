"""h2spec against the inner HTTP/2 front, where it is installed.

`go install github.com/summerwind/h2spec/cmd/h2spec@latest` does that.
"""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.front import http2_front
from tests.kit.http2 import http2_origin
from tests.kit.mesh import address, manifests, mesh

H2SPEC = shutil.which("h2spec") or shutil.which("h2spec", path=Path.home() / "go" / "bin")


@pytest.mark.skipif(H2SPEC is None, reason="h2spec is not installed")
def test_the_inner_front_is_http2_by_the_letter(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}).replace("{name: http,", "{name: h2c,")
        async with mesh(tmp_path, text, waypoint) as it, http2_origin(pod), http2_front(it, (vip, 9080)) as front:
            host, port = front.at
            assert H2SPEC is not None
            h2spec = await asyncio.create_subprocess_exec(
                H2SPEC, "--host", host, "--port", str(port), stdout=asyncio.subprocess.PIPE
            )
            output, _ = await h2spec.communicate()

        found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", output.decode())
        assert found is not None, output.decode()
        total, passed, _, failed = map(int, found.groups())
        assert (failed, passed) == (0, total), output.decode().partition("Failures:")[2]
        assert total >= 145

    run(scenario(), 50)
