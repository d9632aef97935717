"""The `ztunnel` command. Exit status: 0 done, 1 it could not be done, 2 it was asked for in a wrong way."""

from functools import partial
from pathlib import Path

import click

_flag = partial(click.option, show_envvar=True, show_default=True)
_EXISTING = click.Path(exists=True, path_type=Path)

Address = tuple[str, int]


class AddressType(click.ParamType[Address]):
    name = "address:port"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} is not of the form ADDRESS:PORT, such as 127.0.0.1:15020", param, ctx)
        return host.strip("[]"), int(port)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """An L4 node proxy for Istio ambient meshes."""


@cli.command(context_settings={"auto_envvar_prefix": "ZTUNNEL"})
@_flag(
    "--resources",
    type=_EXISTING,
    multiple=True,
    required=True,
    help="Kubernetes YAML: a file or folder; repeatable, later ones win.",
)
@_flag("--node", required=True, help="The node whose pods are served: their spec.nodeName.")
@_flag("--certificates", type=_EXISTING, required=True, help="Folder of NAMESPACE.SERVICEACCOUNT.pem and .key.")
@_flag("--trust-bundle", type=_EXISTING, required=True, help="The roots that peers' certificates must lead to, PEM.")
@_flag("--metrics", type=AddressType(), default="0.0.0.0:15020", help="Prometheus metrics.")
@_flag("--readiness", type=AddressType(), default="0.0.0.0:15021", help="/healthz/ready.")
@_flag("--admin", type=AddressType(), default="127.0.0.1:15000", help="Configuration dump, log level, quit.")
@_flag(
    "--access-log", default="-", metavar="PATH|-", help="A line per connection; - is standard output, empty is none."
)
@_flag("--hbone-port", type=click.IntRange(1, 65535), default=15008, help="Where pods accept HBONE.")
def run(
    resources: tuple[Path, ...],
    node: str,
    certificates: Path,
    trust_bundle: Path,
    metrics: Address,
    readiness: Address,
    admin: Address,
    access_log: str,
    hbone_port: int,
) -> None:
    """Serve the pods of one node."""
    from l4.ztunnel import app

    app.run(
        app.RunOptions(resources, node, certificates, trust_bundle, metrics, readiness, admin, access_log, hbone_port)
    )


def main() -> None:
    cli(prog_name="ztunnel")


if __name__ == "__main__":
    main()
