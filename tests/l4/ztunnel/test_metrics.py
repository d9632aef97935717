"""The gauges of a ztunnel, of real pods and connections."""

import asyncio
import re
from pathlib import Path

from l4.ztunnel.metrics import show_counts, ztunnel_metrics
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.node import World, world
from tests.kit.workloads import pod


def shown(it: World) -> dict[str, int]:
    metrics = ztunnel_metrics("test")
    show_counts(metrics, it.pods, it.node.traffic)
    text = metrics.render("")[0].decode()
    return {
        name: int(value)
        for name, value in re.findall(r"^((?:workload_|istio_tcp_sockets)\S+) (\d+)$", text, re.MULTILINE)
    }


def test_pods_and_sockets_are_counted_while_they_are_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.apply(it.known(pod("late", it.address(3))))
            streams = [await asyncio.open_connection(*it.entry) for _ in range(2)]
            for reader, writer in streams:
                writer.write(b"hello")
                await reader.readexactly(5)

            assert shown(it) == {
                "workload_manager_active_proxy_count": 2,
                "workload_manager_pending_proxy_count": 1,
                'istio_tcp_sockets_open{reporter="source"}': 2,
                'istio_tcp_sockets_open{reporter="destination"}': 1,  # both are streams of one HBONE connection
            }

            for _, writer in streams:
                writer.close()
            await settled(lambda: it.node.traffic.open_count == 0)
            assert shown(it)['istio_tcp_sockets_open{reporter="source"}'] == 0

    run(scenario())
