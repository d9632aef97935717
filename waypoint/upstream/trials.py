"""Test unreachable endpoints with connections of our own, so that no request has to.

`policies.reach` decides when; the cluster handles the result.
"""

import asyncio
from collections.abc import Iterable

from waypoint.upstream.cluster import Cluster
from waypoint.upstream.connections import Spawn
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.originate import Originator

_LOOK_SECONDS = 1.0


async def try_unreachable(clusters: Iterable[Cluster], originator: Originator, spawn: Spawn) -> None:
    """Test endpoints until cancelled. `clusters` yields the live clusters on each iteration."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for cluster in clusters:
            for live in cluster.trials():
                spawn(_try(cluster, live, originator))


async def _try(cluster: Cluster, live: LiveEndpoint, originator: Originator) -> None:
    is_reached = False
    try:
        is_reached = await originator.tries(live.endpoint, live.pool)
    finally:
        cluster.note_trial(live, is_reached)
