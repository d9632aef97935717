import asyncio
import json
import sys
from asyncio.subprocess import PIPE

from aiohttp import ClientSession
from aiohttp.test_utils import unused_port

from l4.admin import OperatorAddresses, OperatorPorts
from l4.telemetry.metrics import MeshMetrics
from policies.host_port import host_port
from tests.kit.aio import run

ANYWHERE = ("127.0.0.1", 0)


async def _about() -> dict[str, object]:
    return {"program": "waypoint", "gateway": "default/waypoint"}


async def _started(admin: str, listen: str) -> asyncio.subprocess.Process:
    arguments = ("-m", "waypoint.cli", "console", "--admin", admin, "--listen", listen)
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, stderr=PIPE)


def test_the_console_is_served_for_the_programs_that_are_named() -> None:
    async def scenario() -> None:
        ports = OperatorPorts(MeshMetrics("proxy", "1.0"), (), lambda: asyncio.sleep(0, {}), lambda: None, about=_about)
        await ports.start(OperatorAddresses(ANYWHERE, ANYWHERE, ANYWHERE))
        admin, listen = host_port(*ports.addresses.admin), f"127.0.0.1:{unused_port()}"
        process = await _started(admin, listen)
        assert process.stdout is not None
        said = (await process.stdout.readline()).decode()
        async with ClientSession() as client:
            async with client.get(f"http://{listen}/programs") as answer:
                (program,) = json.loads(await answer.text())
            async with client.get(f"http://{listen}{program['pages']}traffic") as answer:
                traffic = json.loads(await answer.text())
        process.terminate()
        await process.wait()
        await ports.close()

        assert said == f"http://{listen}/ shows {admin}; Ctrl-C ends it\n"
        assert (program["kind"], program["workload"]) == ("waypoint", "default/waypoint")
        assert traffic["edges"] == []

    run(scenario())


def test_a_program_that_cannot_be_asked_is_named() -> None:
    async def scenario() -> None:
        process = await _started(f"127.0.0.1:{(port := unused_port())}", "127.0.0.1:0")
        _, said = await process.communicate()

        assert process.returncode == 1
        assert f"the administration port of 127.0.0.1:{port} cannot be reached" in said.decode()

    run(scenario())
