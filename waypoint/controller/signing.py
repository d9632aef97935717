"""Signing of workload certificates in every replica of the controller, for a mesh without istiod.

All replicas sign with the same root. The one that leads publishes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from l4.kubernetes.client import ApiClient
from waypoint.controller.callers import Callers
from waypoint.controller.calls import Service
from waypoint.controller.root import MAX_LIFE, RootAuthority
from waypoint.controller.root_keeper import RootKeeper
from waypoint.controller.signing_service import SigningService


@dataclass(frozen=True, slots=True)
class SigningOptions:
    """`address` is `host:port`. `hosts` are the DNS names by which callers know the authority. `node_accounts` are the
    `NAMESPACE/SERVICE_ACCOUNT` of ztunnels. `life` is the longest of a workload certificate."""

    address: str
    hosts: tuple[str, ...]
    node_accounts: tuple[str, ...]
    life: timedelta = MAX_LIFE


class Signing:
    """`on_ready` is called once it signs. `namespace` has the root's Secret. `others` are served at its address."""

    def __init__(
        self,
        options: SigningOptions,
        client: ApiClient,
        namespace: str,
        trust_domain: str,
        on_ready: Callable[[], None],
        others: Sequence[Service] = (),
    ) -> None:
        self._options = options
        self._callers = Callers(client, trust_domain, options.node_accounts)
        self._others = others
        self._keeper = RootKeeper(client, namespace, trust_domain)
        self._service: SigningService | None = None
        self._on_ready = on_ready

    @property
    def port(self) -> int:
        """Where it listens; 0 until it signs."""
        return self._service.port if self._service is not None else 0

    @property
    def concern(self) -> str:
        """Why the root cannot be read or published, or an empty text."""
        return self._keeper.concern

    async def follow(self, is_leader: Callable[[], bool]) -> None:
        """Read the root, sign, and publish the root while this process leads. Runs until cancelled."""
        await self._keeper.follow(self._take, is_leader=is_leader)

    async def close(self) -> None:
        if self._service is not None:
            await self._service.stop()

    async def _take(self, authority: RootAuthority) -> None:
        if self._service is not None:
            self._service.authority = authority
            return
        service = SigningService(authority, self._callers, self._options.hosts, self._options.life)
        await service.start(self._options.address, *self._others)
        self._service = service
        self._on_ready()
