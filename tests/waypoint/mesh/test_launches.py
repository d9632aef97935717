import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from l4.config.documents import ObjectKey
from waypoint.mesh.addresses import Addresses
from waypoint.mesh.ingress import Ingress
from waypoint.mesh.launches import Launcher, Layout, needed_ports
from waypoint.mesh.manifests import Container, ContainerPort
from waypoint.mesh.plan import Mesh, Waypoint
from waypoint.mesh.pods import Pod, Process

CONTAINER = Container("reviews", "bookinfo/reviews:1", ports=(ContainerPort(9080),))
PROCESS = Process("shop/web-0", ("serve", "it"), Path("/src"), CONTAINER, "127.64.0.3", 9080, {"PORT": "9080"})
MESH = Mesh(
    addresses=Addresses(pods={"ztunnel": "127.64.0.1"}),
    pods=(Pod("shop", "web-0", "127.64.0.3", "web", processes=(PROCESS,)),),
    waypoints=(
        Waypoint(
            ObjectKey("gateway.networking.k8s.io", "Gateway", "shop", "wp"),
            "127.96.0.9",
            Pod("shop", "wp", "127.64.0.2", "wp"),
        ),
    ),
)
LAUNCHER = Launcher(Layout(Path("/run")), (Path("a.yaml"), Path("b")), Path("/run/root.pem"), {"PATH": "/bin"})


def option(argv: tuple[str, ...], name: str) -> list[str]:
    return [value for flag, value in pairwise(argv) if flag == name]


def test_a_program_is_ready_where_its_container_listens() -> None:
    launch = LAUNCHER.programs(MESH)["shop/web-0"]

    assert launch.argv == ("serve", "it")
    assert launch.ready == ("127.64.0.3", 9080)
    assert launch.log == Path("/run/logs/shop.web-0.log")
    assert launch.environment == {"PATH": "/bin", "PORT": "9080"}


def test_a_changed_container_is_another_program() -> None:
    changed = replace(PROCESS, container=Container("reviews", "bookinfo/reviews:2"))
    mesh = replace(MESH, pods=(replace(MESH.pods[0], processes=(changed,)),))

    assert LAUNCHER.programs(mesh) != LAUNCHER.programs(MESH)


def test_proxies_read_the_users_files_and_then_the_overlay() -> None:
    for launch in LAUNCHER.proxies(MESH).values():
        assert option(launch.argv, "--resources") == ["a.yaml", "b", "/run/overlay"]


def test_the_ztunnel_has_the_standard_ports_on_its_own_address() -> None:
    launch = LAUNCHER.proxies(MESH)["ztunnel"]

    assert launch.argv[:2] == (sys.executable, "-c")
    assert launch.argv[2].endswith("from l4.ztunnel.cli import main; main()")
    assert launch.argv[3] == "run"
    assert option(launch.argv, "--node") == ["laptop"]
    assert option(launch.argv, "--certificates") == ["/run/certificates"]
    assert option(launch.argv, "--metrics") == ["127.64.0.1:15020"]
    assert launch.ready == ("127.64.0.1", 15021)


def test_a_waypoint_serves_its_gateway_on_its_pods_address() -> None:
    launch = LAUNCHER.proxies(MESH)["waypoint shop/wp"]

    assert option(launch.argv, "--gateway") == ["shop/wp"]
    assert option(launch.argv, "--listen") == ["127.64.0.2:15008"]
    assert option(launch.argv, "--certificate") == ["/run/certificates/shop.wp.pem"]
    assert option(launch.argv, "--private-key") == ["/run/certificates/shop.wp.key"]
    assert option(launch.argv, "--access-log") == ["/run/logs/waypoint.shop.wp-access.log"]


def test_the_access_log_of_waypoints_may_be_shown_instead_of_kept() -> None:
    launches = replace(LAUNCHER, shows_access_log=True).proxies(MESH)

    assert option(launches["waypoint shop/wp"].argv, "--access-log") == ["-"]
    assert launches["waypoint shop/wp"].shows_output
    assert not launches["ztunnel"].shows_output


def test_every_port_of_the_mesh_is_known_before_it_starts() -> None:
    ports = {(host, port) for host, port, _ in needed_ports(MESH, [Ingress.parse("web")])}

    assert ports == {
        ("127.0.0.1", 9080),
        *(("127.64.0.1", port) for port in (15000, 15020, 15021)),
        *(("127.64.0.2", port) for port in (15000, 15008, 15020, 15021)),
        *(("127.64.0.3", port) for port in (9080, 15008)),
    }
