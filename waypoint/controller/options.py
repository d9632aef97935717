"""Command-line options of `waypoint controller run`."""

from dataclasses import dataclass

from l4.admin import OperatorAddresses
from l4.discovery.mesh import Mesh
from l4.kubernetes.options import KubernetesOptions
from waypoint.controller.reconciling import Responsibility
from waypoint.controller.rendering import Installation
from waypoint.controller.signing import SigningOptions


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """`identity` is this process's in the Lease `namespace`/`lease`. Without `signing`, another authority signs.
    `discovery` is the mesh that is served to ztunnels at the address of `signing`, or None."""

    controller_name: str
    installation: Installation
    responsibility: Responsibility
    namespace: str
    lease: str
    identity: str
    addresses: OperatorAddresses
    kubernetes: KubernetesOptions
    signing: SigningOptions | None = None
    discovery: Mesh | None = None
