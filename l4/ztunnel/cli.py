"""The `ztunnel` command. Exit status: 0 success, 1 failure, 2 wrong usage."""

from pathlib import Path

import click

from l4.command_line import EXISTING, Address, flag, operator_ports, resources, version


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@version
def cli() -> None:
    """An L4 node proxy for Istio ambient meshes."""


@cli.command(context_settings={"auto_envvar_prefix": "ZTUNNEL"})
@resources
@flag("--node", required=True, help="Name of the node whose pods are served (spec.nodeName).")
@flag("--certificates", type=EXISTING, required=True, help="Folder with NAMESPACE.SERVICEACCOUNT.pem and .key files.")
@flag("--trust-bundle", type=EXISTING, required=True, help="PEM file of the trusted roots for peers' certificates.")
@flag("--revocations", type=EXISTING, help="PEM file of revocation lists: one from each authority that signs peers.")
@operator_ports
@flag(
    "--access-log", default="-", metavar="PATH|-", help="One line per connection; - is standard output, empty is none."
)
@flag("--hbone-port", type=click.IntRange(1, 65535), default=15008, help="Port on which pods accept HBONE.")
def run(
    resources: tuple[Path, ...],
    node: str,
    certificates: Path,
    trust_bundle: Path,
    revocations: Path | None,
    metrics: Address,
    readiness: Address,
    admin: Address,
    access_log: str,
    hbone_port: int,
) -> None:
    """Serve the pods of one node."""
    from l4.ztunnel import app

    ports = metrics, readiness, admin
    app.run(app.RunOptions(resources, node, certificates, trust_bundle, *ports, access_log, hbone_port, revocations))


def main() -> None:
    cli(prog_name="ztunnel")


if __name__ == "__main__":
    main()
