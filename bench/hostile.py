"""An innocent client among 200 hostile ones: what it still gets, and what they leave behind.

    python -m bench.hostile [--seconds 60] [--connections 200] [--json]

A waypoint runs as a process, with the plain application of this one behind it. An innocent client sends 200 requests
a second over eight tunnels: calm for a while, then beside the hostile ones of `bench.attackers`, then calm again. Their
pace is bounded, because the question is whether the waypoint stays fair, not how many handshakes fill a core. Latency
counts from when a request was due. Memory is looked at before, at the end of the hostilities, and when all has been
quiet for a while. Everything stops by itself.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from bench.attackers import STAGGER_SECONDS
from bench.innocent import Innocent, Phase, application
from tests.kit.process import WaypointProcess, waypoint_process

_SETTLE_SECONDS = 12.0  # the waypoint gives unused memory back every ten


@contextlib.asynccontextmanager
async def _hostility(waypoint: WaypointProcess, connections: int, goaways: dict[str, int]) -> AsyncIterator[None]:
    """`goaways` is filled in at the end."""
    chain = waypoint.pki.write(waypoint.pki.identity("default", "attacker"))
    arguments = (waypoint.ip, waypoint.authority, chain, waypoint.pki.bundle_path, connections)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.attackers", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await asyncio.sleep(connections * STAGGER_SECONDS + 1)
        yield
    finally:
        output, _ = await process.communicate(b"")  # ends standard input
    goaways.update(json.loads(output))


async def measure(seconds: float, connections: int) -> dict[str, object]:
    calm_seconds = max(5.0, seconds / 6)
    goaways: dict[str, int] = {}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        log = stack.enter_context(folder.joinpath("log").open("wb"))
        waypoint = await stack.enter_async_context(
            waypoint_process(folder, log=log, DRAIN_SECONDS="1", DRAIN_DELAY_SECONDS="0")
        )
        server = await asyncio.start_server(application, waypoint.pod, 9080)
        stack.callback(server.close)
        innocent = Innocent(waypoint)
        await innocent.start()
        await innocent.ask(2)
        calm = await innocent.ask(calm_seconds)
        before = waypoint.rss
        async with _hostility(waypoint, connections, goaways):
            attacked = await innocent.ask(seconds)
            during = waypoint.rss
        await asyncio.sleep(_SETTLE_SECONDS)
        after = waypoint.rss
        calm_again = await innocent.ask(calm_seconds)
        refused = await waypoint.refusals()
    all_calm = Phase(calm.latencies + calm_again.latencies)
    return {
        "seconds": seconds,
        "connections": connections,
        "phases": {"calm": calm.figures(), "attacked": attacked.figures(), "calm again": calm_again.figures()},
        "p99 attacked / calm": round(attacked.percentile(0.99) / all_calm.percentile(0.99), 2),
        "RSS MiB": {"before": before >> 20, "during": during >> 20, "after": after >> 20},
        "GOAWAYs": goaways,
        "refused": refused,
    }


def show(result: dict[str, object]) -> str:
    """Markdown, so that it can be pasted as it is."""
    phases = result.pop("phases")
    assert isinstance(phases, dict)
    columns = next(iter(phases.values()))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(map(str, figures.values())) + " |" for name, figures in phases.items()]
    lines += ["", *(f"- {name}: {value}" for name, value in result.items())]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description="A client among hostile ones.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of hostility")
    parser.add_argument("--connections", type=int, default=200, help="hostile ones, shared by all attacks")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    print(f"about {arguments.seconds * 1.4 + 20:.0f} s …", file=sys.stderr)
    result = uvloop.run(measure(arguments.seconds, arguments.connections))
    print(json.dumps(result) if arguments.json else show(result))


if __name__ == "__main__":
    main()
