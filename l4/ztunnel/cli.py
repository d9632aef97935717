"""The `ztunnel` command. Exit status: 0 success, 1 failure, 2 wrong usage."""

from pathlib import Path

import click

from l4.command_line import (
    EXISTING,
    Address,
    authority,
    certificates_from,
    flag,
    operator_ports,
    source,
    source_from,
    version,
)
from l4.identity.options import CertificateFolder


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@version
def cli() -> None:
    """An L4 node proxy for Istio ambient meshes."""


@cli.command(context_settings={"auto_envvar_prefix": "ZTUNNEL"})
@source
@flag("--node", required=True, help="Name of the node whose pods are served (spec.nodeName).")
@flag("--certificates", type=EXISTING, help="Folder with NAMESPACE.SERVICEACCOUNT.pem and .key files.")
@flag("--trust-bundle", type=EXISTING, help="PEM file of the trusted roots for peers' certificates.")
@authority
@flag("--revocations", type=EXISTING, help="PEM file of revocation lists: one from each authority that signs peers.")
@operator_ports
@flag(
    "--access-log", default="-", metavar="PATH|-", help="One line per connection; - is standard output, empty is none."
)
@flag("--hbone-port", type=click.IntRange(1, 65535), default=15008, help="Port on which pods accept HBONE.")
def run(
    resources: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    node: str,
    certificates: Path | None,
    trust_bundle: Path | None,
    ca_address: Address | None,
    ca_root: Path | None,
    ca_token: Path | None,
    cluster_id: str | None,
    revocations: Path | None,
    metrics: Address,
    readiness: Address,
    admin: Address,
    access_log: str,
    hbone_port: int,
) -> None:
    """Serve the pods of one node."""
    files = {"--certificates": certificates, "--trust-bundle": trust_bundle}
    signed_by = certificates_from(files, ca_address, ca_root, ca_token, cluster_id)
    from l4.ztunnel import app

    from_ = signed_by or CertificateFolder(*filter(None, files.values()))
    objects = source_from(resources, kubernetes, kubeconfig, context)
    app.run(app.RunOptions(objects, node, from_, metrics, readiness, admin, access_log, hbone_port, revocations))


def main() -> None:
    cli(prog_name="ztunnel")


if __name__ == "__main__":
    main()
