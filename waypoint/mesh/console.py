"""The proxies of the laptop mesh, as its console asks them."""

from collections.abc import Callable, Sequence

from l4.asking.admin import Admin
from policies.host_port import host_port
from waypoint.console.server import Asked
from waypoint.mesh.launches import Proxy


class AskedProxies:
    """`proxies` returns those that run now: they come and go with Gateways."""

    def __init__(self, proxies: Callable[[], Sequence[Proxy]]) -> None:
        self._proxies = proxies
        self._admins: dict[str, Admin] = {}

    def current(self) -> list[Asked]:
        return [Asked(it.name, it.kind, it.workload, self._admin(it)) for it in self._proxies()]

    async def close(self) -> None:
        for admin in self._admins.values():
            await admin.close()

    def _admin(self, proxy: Proxy) -> Admin:
        address = host_port(*proxy.admin)
        if address not in self._admins:
            self._admins[address] = Admin(proxy.name, address)
        return self._admins[address]
