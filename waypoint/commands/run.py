"""`waypoint run`."""

from pathlib import Path

import click

from l4.command_line import AddressType, flag, operator_ports, resources
from waypoint.commands.parameters import FILE, GatewayType
from waypoint.process.options import Address, GatewayName, RunOptions


@click.command(context_settings={"auto_envvar_prefix": "WAYPOINT"})
@resources
@flag("--gateway", type=GatewayType(), required=True, help="The Gateway whose waypoint this is.")
@flag(
    "--certificate", type=FILE, required=True, help="This workload's certificate chain, PEM; reloaded when it changes."
)
@flag("--private-key", type=FILE, required=True, help="Its private key, PEM.")
@flag("--trust-bundle", type=FILE, required=True, help="The roots that peers' certificates must lead to, PEM.")
@flag("--revocations", type=FILE, help="Lists of revoked certificates, PEM, one of each authority that signs peers.")
@flag("--listen", type=AddressType(), default="0.0.0.0:15008", help="Where HBONE is accepted.")
@flag(
    "--proxy-listen",
    type=AddressType(),
    help="Where a ztunnel connects that ends the tunnels itself (waypoint-inbound-binding: PROXY); only from loopback "
    "and from PROXY_TRUSTED_ADDRESSES.",
)
@operator_ports
@flag("--access-log", default="-", metavar="PATH|-", help="One line per request; - is standard output, empty is none.")
@flag(
    "--record",
    default="",
    metavar="PATH",
    help="Record heads of requests there, without secrets, for `waypoint replay`; RECORD_ONE_IN says how many.",
)
def run(
    resources: tuple[Path, ...],
    gateway: GatewayName,
    certificate: Path,
    private_key: Path,
    trust_bundle: Path,
    revocations: Path | None,
    listen: Address,
    proxy_listen: Address | None,
    metrics: Address,
    readiness: Address,
    admin: Address,
    access_log: str,
    record: str,
) -> None:
    """Serve one Gateway as its waypoint."""
    from waypoint.process.app import run as serve

    serve(
        RunOptions(
            resources=resources,
            gateway=gateway,
            certificate=certificate,
            private_key=private_key,
            trust_bundle=trust_bundle,
            revocations=revocations,
            listen=listen,
            proxy_listen=proxy_listen,
            metrics=metrics,
            readiness=readiness,
            admin=admin,
            access_log=access_log,
            record=record,
        )
    )
