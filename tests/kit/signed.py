"""Both programs as processes whose certificates an authority signs, by their flags."""

import asyncio
import sys
from pathlib import Path

PROGRAMS = {
    "waypoint": ("waypoint.cli", ("--gateway", "default/waypoint"), "spiffe://cluster.local/ns/default/sa/waypoint"),
    "ztunnel": ("l4.ztunnel.cli", ("--node", "node"), "node"),
}
"""The module, its own flags, and the token that says to the tests' authority who it is."""


async def start(
    program: str, ip: str, resources: Path, log: Path, address: str, root: Path
) -> asyncio.subprocess.Process:
    """What it says on standard error goes to a file beside its access log."""
    module, own, token = PROGRAMS[program]
    token_path = log.with_suffix(".token")
    token_path.write_text(f"{token}\n")
    flags = {
        "--resources": resources,
        "--ca-address": address,
        "--ca-root": root,
        "--ca-token": token_path,
        "--metrics": f"{ip}:15020",
        "--readiness": f"{ip}:15021",
        "--admin": f"{ip}:15000",
        "--access-log": log,
    }
    if program == "waypoint":
        flags["--listen"] = f"{ip}:15008"
    command = (sys.executable, "-m", module, "run", *own, *(str(part) for flag in flags.items() for part in flag))
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "DRAIN_DELAY_SECONDS": "0",
        "DRAIN_SECONDS": "1",
        "POD_NAMESPACE": "default",
        "SERVICE_ACCOUNT": "waypoint",
    }
    with log.with_suffix(".stderr").open("wb") as errors:
        return await asyncio.create_subprocess_exec(*command, env=environment, stderr=errors)
