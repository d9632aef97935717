"""All live clusters, reconciled with each new snapshot; closes idle connections."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from l4.config.settings import Settings
from l4.net.descriptors import lookups_at_once
from l4.net.tasks import Tasks
from policies.attributes import ClusterName
from waypoint.config.snapshot import ClusterConfig, Snapshot
from waypoint.replica import Replica
from waypoint.upstream.branches import Branches
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.events import Note
from waypoint.upstream.hash_tables import build_all
from waypoint.upstream.settings import DnsSettings, UpstreamSettings

if TYPE_CHECKING:
    from waypoint.upstream.dns import Names

_TICK_SECONDS = 1.0
_SWEEP_SECONDS = 5.0


class Clusters:
    """`tasks` owns what runs beside. `note` receives the clusters' events. With `replica`, limits hold for all workers
    together."""

    def __init__(
        self,
        settings: Settings,
        tasks: Tasks,
        note: Note = lambda event, name: None,
        replica: Replica | None = None,
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self.note = note
        self._replica = replica
        self._divided: dict[ClusterName, ClusterConfig] = {}
        self.by_name: dict[ClusterName, Cluster] = {}
        self._names: dict[Cluster, Names] = {}
        self._lookups = asyncio.Semaphore(lookups_at_once())
        # A separate limit for names that clients send, so that configured names are always resolved.
        self._bounds_of_asked = asyncio.Semaphore(max(lookups_at_once() // 2, 1)), self._lookups
        self._lacking: dict[Cluster, None] = {}
        self._building: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._next_sweep = self._loop.time() + _SWEEP_SECONDS
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    def __getitem__(self, name: ClusterName) -> Cluster:
        return self.by_name[name]

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self.by_name.values())

    def reconcile(self, snapshot: Snapshot) -> None:
        """Create and update clusters. Call it before the snapshot goes live."""
        for name, config in snapshot.clusters.items():
            cluster = self.by_name.get(name)
            if cluster is None:
                cluster = self.by_name[name] = Cluster(
                    config, self.note, self._loop.time, lacks=self._lacks, replica=self._replica
                )
            elif cluster.config is not config and cluster.config != config:
                cluster.reconcile(config)
            else:
                continue
            if self._replica is not None:
                self._share(cluster, self._replica)
            self._follow_names(cluster, (self._lookups,))
            self._follow_branches(cluster)

    def _share(self, cluster: Cluster, replica: Replica) -> None:
        """Count together with the other workers. If that is not possible, this worker gets its share of the limits.

        The next configuration tries again, because it differs from the divided one. So does the next tick, if only the
        lock was missing.
        """
        if cluster.circuit.shared is not None:
            return
        config, workers = cluster.config, replica.workers
        counts = replica.join(config.name)
        if counts is not None:
            cluster.circuit.share(counts)
            cluster.retries.share(counts)
            self._divided.pop(config.name, None)
        else:
            self._divided[config.name] = config
            circuit, budget = config.circuit.divided(workers), config.retry_budget.divided(workers)
            cluster.reconcile(replace(config, circuit=circuit, retry_budget=budget))

    def _follow_branches(self, trunk: Cluster) -> None:
        config, branches = trunk.config, trunk.branches
        if branches is not None and branches.followed == config.followed:
            branches.follow(config)
            return
        if branches is not None:
            branches.close()
        trunk.branches = None
        if config.followed is not None:
            begin = partial(self._branch, trunk)
            trunk.branches = Branches(config, begin, self._change, self._retire, self._loop.time)

    def _branch(self, trunk: Cluster, config: ClusterConfig) -> Cluster:
        cluster = Cluster(config, self.note, self._loop.time, trunk, self._lacks)
        self._follow_names(cluster, self._bounds_of_asked, tells_each=False)
        return cluster

    def _change(self, branch: Cluster, config: ClusterConfig) -> None:
        branch.reconcile(config)
        self._follow_names(branch, self._bounds_of_asked, tells_each=False)

    def _follow_names(
        self, cluster: Cluster, bounds: tuple[asyncio.Semaphore, ...], *, tells_each: bool = True
    ) -> None:
        """Resolve exactly the names in the configuration."""
        names = self._names.get(cluster)
        if not cluster.config.names:
            if names is not None:
                self._forget_names(cluster)
                cluster.resolve(())
        elif names is not None:
            names.follow(cluster.config)
        else:
            from waypoint.upstream.dns import Names  # see waypoint.process.loading

            self._names[cluster] = names = Names(
                cluster.config,
                self._settings.of(DnsSettings),
                cluster.resolve,
                self._tasks.keep,
                bounds,
                tells_each=tells_each,
            )
            cluster.answered = names.answered

    def _forget_names(self, cluster: Cluster) -> None:
        if cluster in self._names:
            self._names.pop(cluster).close()
        cluster.answered = None

    def _retire(self, cluster: Cluster) -> None:
        cluster.retire()
        self._forget_names(cluster)
        if cluster.branches is not None:
            cluster.branches.close()
            cluster.branches = None

    def _lacks(self, cluster: Cluster) -> None:
        self._lacking[cluster] = None
        self._build()

    def _build(self) -> None:
        if self._building is None or self._building.done():
            self._building = self._tasks.spawn(self._build_tables())

    async def _build_tables(self) -> None:
        """Give clusters the hash tables that they lack, one cluster after the other."""
        while self._lacking:
            cluster = next(iter(self._lacking))
            cluster.use(await asyncio.to_thread(build_all, cluster.lacking()))
            if not cluster.lacking():  # otherwise its endpoints have changed meanwhile
                del self._lacking[cluster]

    def retire_unknown(self, snapshot: Snapshot) -> None:
        """Remove clusters that are not in the live snapshot. Active exchanges keep their cluster."""
        for name in self.by_name.keys() - snapshot.clusters.keys():
            cluster = self.by_name.pop(name)
            self._retire(cluster)
            if self._replica is not None:
                cluster.circuit.share(None)
                cluster.retries.share(None)
                self._replica.leave(name)
                self._divided.pop(name, None)

    def close(self) -> None:
        self._timer.cancel()
        for cluster in self.by_name.values():
            self._retire(cluster)

    def close_idle(self, seconds: float | None = None) -> None:
        """Close connections idle for `seconds`, by default for the configured time."""
        now, usual = self._loop.time(), self._settings.of(UpstreamSettings).upstream_idle_http_seconds
        for cluster in self._all():
            allowed = cluster.config.pool.idle_seconds
            before = now - (seconds if seconds is not None else usual if allowed is None else allowed)
            for live in cluster.endpoints:
                live.close_idle(before)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(
            _TICK_SECONDS, self._tick
        )  # scheduled first, so that a failure does not end the ticks
        if self._replica is not None and self._replica.has_missed_destinations:
            for name, config in tuple(self._divided.items()):
                self.by_name[name].reconcile(config)
                self._share(self.by_name[name], self._replica)
        for cluster in self._all():
            if cluster.needs_ticks:
                cluster.tick()
        if self._lacking:
            self._build()  # no thread may have been free
        if self._loop.time() >= self._next_sweep:
            self._next_sweep = self._loop.time() + _SWEEP_SECONDS
            self.close_idle()
            for cluster in self.by_name.values():
                if cluster.branches is not None:
                    cluster.branches.sweep()

    def _all(self) -> Iterator[Cluster]:
        """Yield all clusters with their branches."""
        for cluster in self.by_name.values():
            yield cluster
            if cluster.branches is not None:
                yield from cluster.branches
