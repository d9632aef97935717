"""The `ztunnel` command. Exit status: 0 success, 1 failure, 2 wrong usage."""

from pathlib import Path

import click

from l4.command_line import (
    EXISTING,
    Address,
    authority,
    certificates_from,
    discovery,
    discovery_from,
    flag,
    operator_ports,
    server_from,
    source,
    source_from,
    version,
)
from l4.identity.options import CertificateFolder
from l4.ztunnel.asking import COMMANDS


class NamespacedName(click.ParamType[tuple[str, str]]):
    name = "namespace/name"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        namespace, _, name = value.partition("/")
        if not namespace or not name or "/" in name:
            self.fail(f"{value!r} is not of the form NAMESPACE/NAME, such as istio-system/agent", param, ctx)
        return namespace, name


AGENT_SOCKET = Path("/var/run/ztunnel/ztunnel.sock")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@version
def cli() -> None:
    """An L4 node proxy for Istio ambient meshes."""


@cli.command(context_settings={"auto_envvar_prefix": "ZTUNNEL"})
@source
@discovery("Discovery server, such as istiod, in place of objects: incremental xDS.")
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
@flag(
    "--agent",
    type=click.Path(path_type=Path),
    metavar="SOCKET",
    help="Serve the pods that the node's agent announces at this socket, in their network namespaces.",
)
@flag("--on-demand", is_flag=True, help="Ask the discovery server for addresses when they are needed; with --agent.")
def run(
    resources: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    discovery: Address | None,
    discovery_root: Path | None,
    discovery_token: Path | None,
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
    agent: Path | None,
    on_demand: bool,
) -> None:
    """Serve the pods of one node."""
    files = {"--certificates": certificates, "--trust-bundle": trust_bundle}
    signed_by = certificates_from(files, ca_address, ca_root, ca_token, cluster_id)
    from l4.ztunnel import app

    from_ = signed_by or CertificateFolder(*filter(None, files.values()))
    ports = metrics, readiness, admin
    control_plane = discovery_from(discovery, discovery_root, discovery_token, on_demand)
    if control_plane is not None and (resources or server_from(kubernetes, kubeconfig, context) is not None):
        raise click.UsageError("--discovery takes the place of --resources and --kubernetes: give one of them")
    if on_demand and (control_plane is None or agent is None):
        raise click.UsageError("--on-demand needs --discovery, and --agent, which tells the pods of the node")
    objects = control_plane or source_from(resources, kubernetes, kubeconfig, context)
    app.run(app.RunOptions(objects, node, from_, *ports, access_log, hbone_port, revocations, agent))


@cli.group()
def agent() -> None:
    """The agent of a node, which redirects the connections of pods to its ztunnel."""


@agent.command("run", context_settings={"auto_envvar_prefix": "ZTUNNEL_AGENT"})
@source
@flag("--node", required=True, help="Name of the node whose pods are redirected (spec.nodeName).")
@flag(
    "--socket",
    type=click.Path(path_type=Path),
    default=AGENT_SOCKET,
    help="Where the node's ztunnel connects to learn of the pods.",
)
@flag(
    "--daemon-set",
    type=NamespacedName(),
    help="The agent's own DaemonSet in the API server. Once it is deleted, pods are no longer redirected.",
)
@operator_ports
def run_agent(
    resources: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    node: str,
    socket: Path,
    daemon_set: tuple[str, str] | None,
    metrics: Address,
    readiness: Address,
    admin: Address,
) -> None:
    """Redirect the pods of one node whose labels ask for it. Needs root, the node's network and all its processes."""
    objects = source_from(resources, kubernetes, kubeconfig, context)
    if daemon_set is not None and resources:
        raise click.UsageError("--daemon-set is looked up in an API server: give --kubernetes, or leave it out")
    from l4.kubernetes.reflector import Key
    from l4.node import app

    own = Key(*daemon_set) if daemon_set is not None else None
    app.run(app.AgentOptions(objects, node, socket, metrics, readiness, admin, own))


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    cli(prog_name="ztunnel")


if __name__ == "__main__":
    main()
