from tests.kit.aio import run
from waypoint.mesh.console import AskedProxies
from waypoint.mesh.launches import Proxy

ZTUNNEL = Proxy("ztunnel", "ztunnel", "", ("127.64.0.1", 15000))
WAYPOINT = Proxy("waypoint default/waypoint", "waypoint", "default/waypoint", ("127.64.0.3", 15000))


def test_proxies_that_come_are_asked_and_those_that_stay_keep_their_connections() -> None:
    async def scenario() -> None:
        running = [ZTUNNEL]
        proxies = AskedProxies(lambda: running)

        (before,) = proxies.current()
        running.append(WAYPOINT)
        after = proxies.current()

        assert [(it.name, it.workload) for it in after] == [
            ("ztunnel", ""),
            ("waypoint default/waypoint", "default/waypoint"),
        ]
        assert after[0].admin is before.admin
        await proxies.close()

    run(scenario())
