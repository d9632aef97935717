"""Which running programs a command asks, and connections to their administration ports.

A program is named by its administration port (`--admin`), as a pod of a cluster (`-n NAMESPACE deploy/waypoint`), or as
a proxy of the laptop mesh, which is found by itself. Without any of them: port 15000 of this machine, as inside of a
pod.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from l4.asking import laptop
from l4.asking.admin import Admin, CannotAsk
from l4.asking.pods import KINDS, find_pods
from l4.configuration import client_of
from l4.kubernetes.credentials import CredentialsError
from l4.kubernetes.options import KubernetesOptions
from l4.kubernetes.port_forward import port_forward
from policies.host_port import host_port

ADMIN_PORT = 15000
HOME = "pywaypoint-system"
"""The namespace in which the chart installs controller, ztunnels and agents."""
_HINT = "; no laptop mesh is running either; give --admin ADDRESS:PORT, or -n NAMESPACE for a pod of a cluster"


@dataclass(frozen=True, slots=True)
class Target:
    """What a command line names. `program` is waypoint or ztunnel; empty texts are not given."""

    program: str
    name: str = ""
    admin: tuple[str, int] | None = None
    namespace: str = ""
    kubeconfig: Path | None = None
    context: str = ""
    node: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def is_of_cluster(self) -> bool:
        """Whether only a cluster can be meant."""
        named = self.namespace or self.kubeconfig or self.context or self.node
        return bool(named) or self.name.partition("/")[0] in KINDS


@asynccontextmanager
async def reached(target: Target) -> AsyncIterator[list[Admin]]:
    """Yield the administration ports that the target means, at least one. Raises CannotAsk."""
    async with AsyncExitStack() as stack:
        if target.admin is not None:
            admins = [Admin(host_port(*target.admin), host_port(*target.admin))]
        elif target.is_of_cluster:
            admins = await _of_cluster(target, stack)
        else:
            admins = _of_laptop(target)
        for admin in admins:
            stack.push_async_callback(admin.close)
        yield admins


@asynccontextmanager
async def reached_one(target: Target) -> AsyncIterator[Admin]:
    """Yield the one administration port that the target means. Raises CannotAsk if there are several."""
    async with reached(target) as admins:
        if len(admins) > 1:
            raise CannotAsk(f"there are several, name one: {', '.join(it.name for it in admins)}")
        yield admins[0]


async def _of_cluster(target: Target, stack: AsyncExitStack) -> list[Admin]:
    try:
        client = client_of(KubernetesOptions(target.kubeconfig, target.context))
    except CredentialsError as error:
        raise CannotAsk(str(error)) from None
    stack.push_async_callback(client.close)
    namespace, name = (HOME, "ds/ztunnel") if target.program == "ztunnel" else ("default", "")
    admins = []
    for pod in await find_pods(client, target.namespace or namespace, target.name or name, target.node):
        forward = await stack.enter_async_context(port_forward(client, pod.namespace, pod.name, ADMIN_PORT))
        admins.append(Admin(str(pod), "localhost", forward))
    return admins


def _of_laptop(target: Target) -> list[Admin]:
    running = [it for it in laptop.proxies(laptop.folder(target.environment)) if it.program == target.program]
    if not running and target.name:
        raise CannotAsk(
            f"no laptop mesh is running that could have {target.name}; for a pod of a cluster, give -n NAMESPACE"
        )
    if not running:
        here = host_port("127.0.0.1", ADMIN_PORT)
        return [Admin(here, here, hint=_HINT)]
    wanted = [it for it in running if target.name in ("", it.name, it.name.rpartition("/")[2])]
    if not wanted:
        names = ", ".join(it.name for it in running)
        raise CannotAsk(f"the laptop mesh has no {target.program} {target.name}; it has {names}")
    return [Admin(it.name, it.admin) for it in wanted]
