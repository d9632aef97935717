"""Command-line options of `waypoint controller run`."""

from dataclasses import dataclass
from pathlib import Path

from l4.admin import OperatorAddresses
from waypoint.controller.reconciling import Responsibility
from waypoint.controller.rendering import Installation


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """`identity` is this process's in the Lease `namespace`/`lease`; without a kubeconfig or context, the pod's service
    account is used where there is one."""

    controller_name: str
    installation: Installation
    responsibility: Responsibility
    namespace: str
    lease: str
    identity: str
    addresses: OperatorAddresses
    kubeconfig: Path | None = None
    context: str = ""
