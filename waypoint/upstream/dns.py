"""Resolve endpoints that are DNS names, in the background. Requests wait only for the first answer.

Each cluster with names has a task. Answers are cached for their TTL, within bounds. If a lookup fails, the last answer
stays valid for some minutes, so that a DNS outage does not affect reachable services.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.rdatatype

from l4.discovery.objects import is_ip
from l4.discovery.workload import NamedEndpoint
from l4.net.tasks import Keep
from l4.telemetry.process_log import EACH
from policies.balancing.endpoint import Endpoint
from waypoint.config.snapshot import ClusterConfig
from waypoint.upstream.dns_sockets import LookupSockets
from waypoint.upstream.settings import DnsSettings

log = logging.getLogger(__name__)

MAX_ADDRESSES = 32


@dataclass(slots=True)
class _Known:
    """The last successful answer, and until when it may be used."""

    addresses: tuple[str, ...] = ()
    usable_until: float = 0.0
    is_failing: bool = False


class Names:
    """Resolves the names of one cluster until `close`. `on_change` receives all endpoints.

    `answered` is set when each name has been resolved once, successfully or not.
    """

    def __init__(
        self,
        config: ClusterConfig,
        settings: DnsSettings,
        on_change: Callable[[tuple[Endpoint, ...]], None],
        keep: Keep,
        lookups: Collection[asyncio.Semaphore],
        *,
        tells_each: bool = True,
    ) -> None:
        """`lookups` limit concurrent lookups of all clusters. `tells_each` exempts log lines from sampling, for
        configured names."""
        self._config = config
        self._settings = settings
        self._on_change = on_change
        self._lookups = lookups
        self._extra = EACH if tells_each else None
        self._known = {named.name: _Known() for named in config.names}
        self._shown: tuple[Endpoint, ...] = ()
        self._resolver = dns.asyncresolver.Resolver(configure=not settings.dns_servers)
        if settings.dns_servers:
            self._resolver.nameservers, self._resolver.port = _servers(settings.dns_servers)
        self._resolver.lifetime = settings.dns_timeout_seconds
        self._sockets = LookupSockets()
        self.answered = asyncio.Event()
        self._keep = keep
        self._task = keep("looking names up", self._run)

    def follow(self, config: ClusterConfig) -> None:
        """Apply a new configuration. Known answers are kept and get the new options at once.

        New TLS options thus do not wait for a name server.
        """
        self._config = config
        before, self._known = self._known, {it.name: self._known.get(it.name) or _Known() for it in config.names}
        self._show()
        if before.keys() != self._known.keys():
            if not self._shown:
                self.answered.clear()
            self._task.cancel()
            self._task = self._keep("looking names up", self._run)

    def close(self) -> None:
        self._task.cancel()
        self.answered.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings
        while True:
            seconds = await asyncio.gather(*(self._look_up(name, loop.time()) for name in self._known))
            self._show()
            self.answered.set()
            await asyncio.sleep(min(max(min(seconds), settings.dns_min_seconds), settings.dns_max_seconds))

    def _show(self) -> None:
        found = tuple(self._endpoints(asyncio.get_running_loop().time()))
        if found != self._shown:
            self._shown = found
            self._on_change(found)

    async def _look_up(self, name: str, now: float) -> float:
        """Resolve a name. Returns how long the answer is valid, in seconds."""
        known = self._known[name]
        try:
            async with AsyncExitStack() as bounds:
                for bound in self._lookups:
                    await bounds.enter_async_context(bound)
                addresses, ttl = await self._resolve(name)
        except (dns.exception.DNSException, OSError) as error:
            if not known.is_failing:
                log.warning(
                    "cannot resolve %s: %s; the last answer stays in use for some time", name, error, extra=self._extra
                )
            known.is_failing = True
            return self._settings.dns_min_seconds
        if known.is_failing:
            log.info("%s resolves again: %s", name, ", ".join(addresses), extra=self._extra)
        known.is_failing = False
        known.addresses = addresses
        known.usable_until = now + ttl + self._settings.dns_stale_seconds
        return ttl

    async def _resolve(self, name: str) -> tuple[tuple[str, ...], float]:
        """Query A and AAAA; IPv4 addresses come first. One family is enough."""
        if is_ip(name):
            return (name,), self._settings.dns_max_seconds
        answers = await asyncio.gather(
            *(
                self._resolver.resolve(name, kind, backend=self._sockets)
                for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)
            ),
            return_exceptions=True,
        )
        good = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not good:
            assert isinstance(answers[0], BaseException)
            raise answers[0]
        addresses = dict.fromkeys(record.address for answer in good for record in answer)
        ttl = min(answer.rrset.ttl for answer in good if answer.rrset is not None)
        return tuple(sorted(addresses))[:MAX_ADDRESSES], float(ttl)

    def _endpoints(self, now: float) -> list[Endpoint]:
        return [
            _endpoint(self._config, named, address)
            for named in self._config.names
            if self._known[named.name].usable_until > now
            for address in self._known[named.name].addresses
        ]


def _endpoint(config: ClusterConfig, named: NamedEndpoint, address: str) -> Endpoint:
    return Endpoint(
        ip=address,
        port=named.ports[config.port],
        identity=named.workload.tunnel_identity,
        workload=named.workload.metric_labels,
        weight=named.weight,
        tls=config.tls,
        rank=named.rank,
    )


def _servers(text: str) -> tuple[list[str], int]:
    """Parse `10.0.0.10,10.0.0.11` or `127.0.0.1:5353`. All servers use the last port given."""
    hosts, port = [], 53
    for server in text.split(","):
        host, _, given = server.strip().partition(":")
        hosts.append(host)
        port = int(given) if given else port
    return hosts, port
