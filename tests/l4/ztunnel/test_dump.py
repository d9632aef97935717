"""`/config_dump` in the form that istioctl reads, of real pods with a real connection between them."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from l4.discovery.workload import (
    ApplicationTunnel,
    AppProtocol,
    GatewayAddress,
    NamedEndpoint,
    Service,
    ServicePort,
    WaypointShare,
)
from l4.ztunnel.dump import dump, state_of
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.node import HBONE_PORT, World, world
from tests.kit.workloads import pod, registry, service

UIDS = CLIENT, SERVER = "Kubernetes//Pod/default/client", "Kubernetes//Pod/default/server"


def dumped(it: World) -> Any:
    return json.loads(json.dumps(dump(state_of(it.node, it.pods))))


def by_name(found: list[Any]) -> dict[str, Any]:
    return {it["name"]: it for it in found}


def dump_of(folder: Path, *objects: Any) -> Any:
    async def scenario() -> Any:
        async with world(folder) as it:
            it.apply(registry(*objects))
            return dumped(it)

    return run(scenario())


def test_workloads_and_services_have_what_the_tables_of_istioctl_show(tmp_path: Path) -> None:
    own_proxy = ApplicationTunnel(15088, has_header=True)
    waypoint = replace(pod("waypoint", "10.0.0.9", node="elsewhere"), application_tunnel=own_proxy)
    bound = GatewayAddress(hostname="waypoint.default.svc.cluster.local", namespace="default", gateway="waypoint")
    app = replace(pod("app", "10.0.0.1", "fd00::1", node="a"), locality="eu/west", waypoint=bound)
    ill = pod("ill", "10.0.0.2", node="b", is_healthy=False, speaks_hbone=False, network="far")

    found = dump_of(
        tmp_path,
        service("waypoint", "10.1.0.9", ports={15008: 15008}, pods=[waypoint]),
        service("app", "10.1.0.1", "fd01::1", ports={80: 8080}, pods=[app, ill], waypoint=bound),
        replace(
            service("shared", "10.1.0.2", ports={80: 8080}, waypoint=bound),
            shares=(WaypointShare(bound, 90), WaypointShare(GatewayAddress(ip="10.1.0.8"), 10)),
        ),
    )

    workloads, services = by_name(found["workloads"]), by_name(found["services"])
    to_waypoint = {"destination": "default/waypoint.default.svc.cluster.local", "hboneMtlsPort": 15008}
    assert workloads["app"] == {
        "uid": "Kubernetes//Pod/default/app",
        "name": "app",
        "namespace": "default",
        "workloadIps": ["10.0.0.1", "fd00::1"],
        "protocol": "HBONE",
        "trustDomain": "cluster.local",
        "serviceAccount": "app",
        "workloadName": "app",
        "workloadType": "deployment",
        "canonicalName": "app",
        "canonicalRevision": "latest",
        "node": "a",
        "status": "Healthy",
        "clusterId": "Kubernetes",
        "capacity": 1,
        "waypoint": to_waypoint,
        "locality": {"region": "eu", "zone": "west", "subzone": ""},
        "services": ["default/app.default.svc.cluster.local"],
    }
    assert workloads["waypoint"]["applicationTunnel"] == {"protocol": "PROXY", "port": 15088}
    assert (workloads["ill"]["protocol"], workloads["ill"]["status"]) == ("TCP", "Unhealthy")
    assert workloads["ill"]["network"] == "far"
    assert services["app"] == {
        "name": "app",
        "namespace": "default",
        "hostname": "app.default.svc.cluster.local",
        "vips": ["/10.1.0.1", "/fd01::1"],
        "ports": {"80": 8080},
        "endpoints": {
            app.uid: {"workloadUid": app.uid, "port": {"80": 8080}, "status": "Healthy"},
            ill.uid: {"workloadUid": ill.uid, "port": {"80": 8080}, "status": "Unhealthy"},
        },
        "waypoint": to_waypoint,
        "ipFamilies": "Dual",
    }
    to_canary = {"destination": "/10.1.0.8", "hboneMtlsPort": 15008}
    assert services["shared"]["weightedWaypoints"] == [
        {"waypoint": to_waypoint, "weight": 90},
        {"waypoint": to_canary, "weight": 10},
    ]


def test_a_waypoint_without_a_name_is_shown_by_its_address(tmp_path: Path) -> None:
    bound = GatewayAddress(ip="10.1.0.9", namespace="default", gateway="waypoint")

    found = dump_of(tmp_path, service("app", "10.1.0.1", ports={80: 8080}, waypoint=bound))

    assert by_name(found["services"])["app"]["waypoint"]["destination"] == "/10.1.0.9"


def test_an_endpoint_with_a_dns_name_counts_as_a_workload_with_a_hostname(tmp_path: Path) -> None:
    outside = replace(
        pod("outside", speaks_hbone=False), uid="Kubernetes/networking.istio.io/ServiceEntry/default/out/db"
    )
    entry = Service(
        name="out",
        namespace="default",
        hostname="db.example.com",
        addresses=(),
        ports=(ServicePort(5432, "tcp", AppProtocol.TCP),),
        endpoints=(),
        is_entry=True,
        names=(NamedEndpoint("db.internal", {5432: 5432}, 1, outside),),
    )

    found = dump_of(tmp_path, entry)

    (workload,), (shown,) = found["workloads"], found["services"]
    assert (workload["hostname"], workload["workloadIps"]) == ("db.internal", [])
    assert workload["services"] == ["default/db.example.com"]
    assert set(shown["endpoints"]) == {workload["uid"]}


def test_a_port_without_one_target_has_target_0(tmp_path: Path) -> None:
    pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]
    one, other = (
        service("app", "10.1.0.1", ports={80: port}, pods=[it]) for it, port in zip(pods, (1, 2), strict=True)
    )

    found = dump_of(tmp_path, replace(one, endpoints=one.endpoints + other.endpoints))

    assert found["services"][0]["ports"] == {"80": 0}


def test_certificates_are_shown_with_their_roots_and_without_keys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.apply(it.known(pod("late", it.address(3))))

            found = dumped(it)

        shown = {each["identity"].rpartition("/")[2]: each for each in found["certificates"]}
        (leaf,), (root,) = shown["client"]["certChain"], shown["client"]["rootCerts"]
        own = x509.load_pem_x509_certificate(base64.b64decode(leaf["pem"]))
        assert shown["client"]["state"] == "Available"
        assert leaf["serialNumber"] == str(own.serial_number)
        assert datetime.fromisoformat(leaf["validFrom"]) == own.not_valid_before_utc
        assert datetime.fromisoformat(leaf["expirationTime"]) == own.not_valid_after_utc
        assert base64.b64decode(root["pem"]).strip() == it.pki.bundle_path.read_bytes().strip()
        assert shown["late"]["state"].startswith("Unavailable: ")
        assert (shown["late"]["certChain"], shown["late"]["rootCerts"]) == ([], [])
        assert "PRIVATE" not in json.dumps(found)
        states = {state["info"]["name"]: state["state"] for state in found["workloadState"].values()}
        assert states == {"client": "Up", "server": "Up", "late": "Pending"}

    run(scenario())


def test_a_connection_is_shown_at_both_ends_until_it_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.apply(it.known())
            reader, writer = await asyncio.open_connection(*it.entry)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"

            found = dumped(it)["workloadState"]

            (out,), (into,) = found[CLIENT]["connections"]["outbound"], found[SERVER]["connections"]["inbound"]
            ip, port = it.server.addresses[0], HBONE_PORT
            host, local = writer.get_extra_info("sockname")[:2]
            assert out == {
                "src": f"{host}:{local}",
                "originalDst": f"{it.vip}:80",
                "actualDst": f"{ip}:{port}",
                "protocol": "HBONE",
            }
            assert into["src"].startswith(f"{it.client.addresses[0]}:")
            assert (into["originalDst"], into["actualDst"]) == ("echo.default.svc.cluster.local", f"{ip}:8080")
            assert into["protocol"] == "HBONE"
            assert not found[CLIENT]["connections"]["inbound"] + found[SERVER]["connections"]["outbound"]

            writer.close()
            await settled(lambda: it.node.traffic.open_count == 0)
            left = [side for uid in UIDS for side in dumped(it)["workloadState"][uid]["connections"].values()]
            assert left == [[]] * 4

    run(scenario())


@pytest.mark.parametrize("speaks_hbone", [True, False])
def test_a_plain_connection_has_the_protocol_tcp(tmp_path: Path, speaks_hbone: bool) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            if not speaks_hbone:
                it.server = replace(pod("server", it.server.addresses[0], speaks_hbone=False))
            it.apply(it.known())
            reader, writer = await asyncio.open_connection(*it.entry)
            writer.write(b"hello")
            await reader.readexactly(5)

            (out,) = dumped(it)["workloadState"][CLIENT]["connections"]["outbound"]

            assert out["protocol"] == ("HBONE" if speaks_hbone else "TCP")
            writer.close()

    run(scenario())
