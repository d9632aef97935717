"""The subcommand `waypoint run`."""

from pathlib import Path

import click

from l4.command_line import (
    AddressType,
    authority,
    certificates_from,
    discovery,
    discovery_from,
    flag,
    operator_ports,
    source,
    source_from,
)
from l4.identity.options import CertificateFiles
from waypoint.commands.parameters import FILE, GatewayType, WorkersType, workers_here
from waypoint.process.options import Address, GatewayName, RunOptions


@click.command(context_settings={"auto_envvar_prefix": "WAYPOINT"})
@source
@discovery("Discovery server, such as istiod, in place of Pods and EndpointSlices: incremental xDS.")
@flag("--gateway", type=GatewayType(), required=True, help="The Gateway that this waypoint serves.")
@flag("--certificate", type=FILE, help="PEM file of this workload's certificate chain; reloaded when it changes.")
@flag("--private-key", type=FILE, help="PEM file of its private key.")
@flag("--trust-bundle", type=FILE, help="PEM file of the trusted roots for peers' certificates.")
@authority
@flag("--revocations", type=FILE, help="PEM file of revocation lists: one from each authority that signs peers.")
@flag("--listen", type=AddressType(), default="0.0.0.0:15008", help="Address on which to accept HBONE.")
@flag(
    "--proxy-listen",
    type=AddressType(),
    help="Address for a ztunnel that terminates tunnels itself (waypoint-inbound-binding: PROXY); only for loopback "
    "and PROXY_TRUSTED_ADDRESSES.",
)
@flag(
    "--workers",
    type=WorkersType(),
    default="1",
    help="Processes that carry requests; auto is one per CPU. Limits hold for all of them together.",
)
@operator_ports
@flag("--access-log", default="-", metavar="PATH|-", help="One line per request; - is standard output, empty is none.")
@flag(
    "--record",
    default="",
    metavar="PATH",
    help="File for recording request heads without secrets, for `waypoint replay`; see RECORD_ONE_IN.",
)
def run(
    resources: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    discovery: Address | None,
    discovery_root: Path | None,
    discovery_token: Path | None,
    gateway: GatewayName,
    certificate: Path | None,
    private_key: Path | None,
    trust_bundle: Path | None,
    ca_address: Address | None,
    ca_root: Path | None,
    ca_token: Path | None,
    cluster_id: str | None,
    revocations: Path | None,
    listen: Address,
    proxy_listen: Address | None,
    workers: str,
    metrics: Address,
    readiness: Address,
    admin: Address,
    access_log: str,
    record: str,
) -> None:
    """Serve one Gateway as its waypoint."""
    files = {"--certificate": certificate, "--private-key": private_key, "--trust-bundle": trust_bundle}
    signed_by = certificates_from(files, ca_address, ca_root, ca_token, cluster_id)
    from waypoint.process.app import run as serve

    serve(
        RunOptions(
            resources=source_from(resources, kubernetes, kubeconfig, context),
            gateway=gateway,
            certificate=signed_by or CertificateFiles(*filter(None, files.values())),
            revocations=revocations,
            listen=listen,
            proxy_listen=proxy_listen,
            workers=workers_here(workers),
            metrics=metrics,
            readiness=readiness,
            admin=admin,
            access_log=access_log,
            record=record,
            discovery=discovery_from(discovery, discovery_root, discovery_token),
        )
    )
