"""Tables are built once, and never by the event loop."""

import asyncio
import time

import pytest

from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol
from l4.net.tasks import Tasks
from policies.attributes import ClusterName
from policies.balancing.endpoint import Endpoint
from policies.balancing.maglev import DEFAULT_TABLE_SIZE
from policies.balancing.method import Balancing, Method
from policies.outcome import Ending, Outcome
from policies.outlier import OutlierDetection
from tests.kit.aio import run
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig, Snapshot
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.hash_tables import Tables, shape_of

ENDPOINTS = tuple(Endpoint(f"10.0.0.{number}", 80, None) for number in range(20))
NAME = ClusterName("c")


@pytest.mark.parametrize(
    "balancing",
    [Balancing(Method.MAGLEV, table_size=DEFAULT_TABLE_SIZE), Balancing(Method.RING_HASH, table_size=1 << 15)],
)
def test_while_endpoints_are_ejected_no_turn_of_the_loop_takes_long(balancing: Balancing) -> None:
    policy = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    config = ClusterConfig(NAME, UNKNOWN_SERVICE, 80, AppProtocol.HTTP, ENDPOINTS, balancing=balancing, outlier=policy)

    async def scenario() -> None:
        tasks = Tasks()
        clusters = Clusters(Settings(), tasks)
        clusters.reconcile(Snapshot("", Registry(), clusters={NAME: config}))
        cluster, turns, longest = clusters[NAME], 0, 0.0
        async with asyncio.timeout(60):
            while cluster.lacking():  # noqa: ASYNC110 - a table may be there in advance
                await asyncio.sleep(0.001)
            for broken in cluster.endpoints[:3]:
                began = time.thread_time()
                cluster.record(broken, Outcome(Ending.RESPONSE, 500))
                while cluster.lacking():
                    await asyncio.sleep(0.001)
                    turns, longest = turns + 1, max(longest, time.thread_time() - began)
                    began = time.thread_time()
                assert broken not in {cluster.pick(lambda: 0.5, (), b"%d" % key) for key in range(200)}
        clusters.close()
        await tasks.close()

        assert turns > 3, "the loop waited for the tables"
        assert longest < 0.01, "the loop built them"

    run(scenario())


def test_of_many_tables_those_used_last_are_kept() -> None:
    tables = Tables()
    shapes = [shape_of(Balancing(Method.MAGLEV, table_size=11), (endpoint,)) for endpoint in _many(257)]
    for shape in shapes[:256]:
        tables.build(shape)
    first = tables.get(shapes[0])

    tables.build(shapes[256])

    assert tables.get(shapes[0]) is first is not None
    assert tables.get(shapes[1]) is None


def _many(count: int) -> list[Endpoint]:
    return [Endpoint(f"10.1.{number >> 8}.{number & 255}", 80, None) for number in range(count)]
