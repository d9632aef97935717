"""Run a program with certificates that an authority signs instead of files.

Usage: `python -m tests.kit.signed` with the program's name, the authority's address and root, and the options, in JSON.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from l4 import settings as l4_settings
from l4.config.folder import FolderSource
from l4.config.settings import Settings
from l4.identity.signing import AuthoritySource
from l4.identity.source import OwnCertificate
from l4.telemetry.process_log import ProcessLog
from l4.ztunnel.app import RunOptions as ZtunnelOptions
from l4.ztunnel.app import Ztunnel
from policies.attributes import Identity
from tests.kit.certificate_service import ServiceClient
from waypoint.process.app import Waypoint
from waypoint.process.options import GatewayName
from waypoint.process.options import RunOptions as WaypointOptions
from waypoint.settings import SECTIONS

NOT_THERE = Path("/nonexistent")


async def waypoint(ip: str, resources: Path, log: Path, address: str, root: Path, process_log: ProcessLog) -> None:
    identity = Identity("cluster.local", "default", "waypoint")
    source = AuthoritySource(ServiceClient(address, root, str(identity)))
    options = WaypointOptions(
        resources=(resources,),
        gateway=GatewayName("default", "waypoint"),
        certificate=NOT_THERE,
        private_key=NOT_THERE,
        trust_bundle=NOT_THERE,
        listen=(ip, 15008),
        metrics=(ip, 15020),
        readiness=(ip, 15021),
        admin=(ip, 15000),
        access_log=str(log),
    )
    settings, files = Settings.from_environment(os.environ, SECTIONS), FolderSource([resources])
    await Waypoint(options, settings, {}, process_log, OwnCertificate(source, identity), files).run()


async def ztunnel(ip: str, resources: Path, log: Path, address: str, root: Path, process_log: ProcessLog) -> None:
    source = AuthoritySource(ServiceClient(address, root, "node"))
    options = ZtunnelOptions(
        resources=(resources,),
        node="node",
        certificates=NOT_THERE,
        trust_bundle=NOT_THERE,
        metrics=(ip, 15020),
        readiness=(ip, 15021),
        admin=(ip, 15000),
        access_log=str(log),
        hbone_port=15008,
    )
    settings, files = Settings.from_environment(os.environ, l4_settings.SECTIONS), FolderSource([resources])
    await Ztunnel(options, settings, process_log, source, files).run()


async def start(program: str, **arguments: Any) -> asyncio.subprocess.Process:
    """Start the program in its own process."""
    environment = {"PYTHONPATH": ":".join(sys.path), "DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "1"}
    text = json.dumps({name: str(value) for name, value in arguments.items()})
    command = (sys.executable, "-m", "tests.kit.signed", program, text)
    return await asyncio.create_subprocess_exec(*command, env=environment)


def main(program: str, text: str) -> None:
    it = json.loads(text)
    run = {"waypoint": waypoint, "ztunnel": ztunnel}[program]
    with ProcessLog() as process_log:
        paths = Path(it["resources"]), Path(it["log"])
        uvloop.run(run(it["ip"], *paths, it["address"], Path(it["root"]), process_log))


if __name__ == "__main__":
    main(*sys.argv[1:])
