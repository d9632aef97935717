"""`waypoint controller`: make waypoints of a cluster's Gateways."""

from datetime import timedelta
from pathlib import Path

import click

from l4.command_line import Address, AddressType, authority_text, flag, operator_ports
from waypoint.commands.parameters import FILE, WorkersType
from waypoint.config.status import CONTROLLER

MIN_CERTIFICATE_SECONDS, DAY_SECONDS = 60, 86400


@click.group()
def controller() -> None:
    """Make and keep the waypoints of a cluster."""


@controller.command("run", context_settings={"auto_envvar_prefix": "WAYPOINT_CONTROLLER"})
@flag("--image", required=True, help="Image of waypoints.")
@flag("--image-pull-policy", default="IfNotPresent", help="When nodes pull the image.")
@flag("--ca-address", required=True, metavar="HOST:PORT", help="The authority that signs waypoints' certificates.")
@flag("--sign", type=AddressType(), help="Sign workload certificates at this address, in place of istiod.")
@flag("--sign-name", multiple=True, metavar="DNS", help="DNS name of this authority.  [default: --ca-address's]")
@flag(
    "--node-account",
    multiple=True,
    default=["pywaypoint-system/ztunnel"],
    metavar="NAMESPACE/NAME",
    help="Service account of ztunnels, which get certificates for the pods of their nodes.",
)
@flag(
    "--certificate-seconds",
    type=click.IntRange(MIN_CERTIFICATE_SECONDS, DAY_SECONDS),
    default=DAY_SECONDS,
    metavar="N",
    help="Longest life of the certificates that --sign signs.",
)
@flag(
    "--serve-discovery",
    is_flag=True,
    help="Serve discovery (xDS) to ztunnels at the address of --sign, in place of istiod.",
)
@flag(
    "--waypoint-discovery",
    default="",
    metavar="HOST:PORT",
    help="Discovery server from which waypoints learn workloads, in place of Pods and EndpointSlices.",
)
@flag(
    "--waypoint-workers",
    type=WorkersType(),
    default="1",
    help="WAYPOINT_WORKERS of waypoints, see `waypoint run --workers`; an overlay can set another one.",
)
@flag("--cluster-id", default="Kubernetes", help="The cluster's name at the authority.")
@flag("--trust-domain", default="cluster.local", envvar="TRUST_DOMAIN", help="Trust domain of the mesh.")
@flag("--cluster-domain", default="cluster.local", help="Domain of the cluster's Services.")
@flag("--controller-name", default=CONTROLLER, help="GatewayClasses of this name are served.")
@flag("--revision", default="default", help="Gateways with another label istio.io/rev are left alone.")
@flag("--role", default="pywaypoint-waypoint", help="ClusterRole of waypoints; its ClusterRoleBinding has this name.")
@flag("--lease", default="pywaypoint-controller", help="Lease by which one of several replicas leads.")
@flag("--namespace", default="pywaypoint-system", envvar="POD_NAMESPACE", help="Namespace of the Lease.")
@flag(
    "--identity", default="", envvar="POD_NAME", help="This replica's name in the Lease; by default, host and number."
)
@flag(
    "--kubeconfig", type=FILE, help="Kubeconfig; by default the pod's service account, or KUBECONFIG outside of pods."
)
@flag("--context", default="", help="Context of the kubeconfig; by default its current one.")
@operator_ports
def controller_run(
    image: str,
    image_pull_policy: str,
    ca_address: str,
    sign: Address | None,
    sign_name: tuple[str, ...],
    node_account: tuple[str, ...],
    certificate_seconds: int,
    serve_discovery: bool,
    waypoint_discovery: str,
    waypoint_workers: str,
    cluster_id: str,
    trust_domain: str,
    cluster_domain: str,
    controller_name: str,
    revision: str,
    role: str,
    lease: str,
    namespace: str,
    identity: str,
    kubeconfig: Path | None,
    context: str,
    metrics: Address,
    readiness: Address,
    admin: Address,
) -> None:
    """Make a waypoint for each Gateway of a GatewayClass with the controller's name, and write its status.

    Several replicas may run: one leads, the others stand by.
    """
    import os
    import socket
    from dataclasses import replace

    from l4.admin import OperatorAddresses
    from l4.config.settings import InvalidSetting, Settings
    from l4.discovery.mesh import Mesh
    from l4.kubernetes.options import KubernetesOptions
    from l4.settings import SECTIONS
    from waypoint.controller.app import run
    from waypoint.controller.options import ControllerOptions
    from waypoint.controller.reconciling import Responsibility
    from waypoint.controller.rendering import Installation
    from waypoint.controller.signing import SigningOptions

    if serve_discovery and sign is None:
        raise click.UsageError("--serve-discovery needs --sign: both are served at one address")
    discovery = None
    if serve_discovery:
        try:
            mesh = Settings.from_environment(os.environ, SECTIONS).of(Mesh)
        except InvalidSetting as error:
            raise click.UsageError(str(error)) from None
        names_of_mesh = {"trust_domain": trust_domain, "cluster_domain": cluster_domain, "cluster_id": cluster_id}
        discovery = replace(mesh, **names_of_mesh)
    signing = None
    if sign is not None:
        names = sign_name or (ca_address.rpartition(":")[0],)
        life = timedelta(seconds=certificate_seconds)
        signing = SigningOptions(authority_text(sign), names, node_account, life)
    run(
        ControllerOptions(
            controller_name=controller_name,
            installation=Installation(
                image,
                ca_address,
                image_pull_policy,
                cluster_id,
                trust_domain,
                cluster_domain,
                discovery=waypoint_discovery,
                workers=waypoint_workers,
            ),
            responsibility=Responsibility(revision, role),
            namespace=namespace,
            lease=lease,
            identity=identity or f"{socket.gethostname()}-{os.getpid()}",
            addresses=OperatorAddresses(metrics=metrics, readiness=readiness, admin=admin),
            kubernetes=KubernetesOptions(kubeconfig, context),
            signing=signing,
            discovery=discovery,
        )
    )
