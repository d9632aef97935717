"""What `istioctl proxy-config` reads of a waypoint's operator port, in Envoy's form."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.kit.aio import run
from tests.waypoint.process.test_supervisor import get, supervised
from tests.waypoint.test_exchange import Setting
from waypoint.process.answering import LocalWorker
from waypoint.process.as_envoy import cluster_statuses


def test_the_dump_has_clusters_and_certificates_but_no_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Setting().mesh(tmp_path) as it, supervised([LocalWorker("worker", it.worker)]) as supervisor:
            _, text = await get(supervisor, "/config_dump")

        clusters, secrets = json.loads(text)["configs"]
        own = it.worker.parts.certificate.get().certificate
        shown = [cluster["cluster"]["name"] for cluster in clusters["dynamic_active_clusters"]]
        chain, roots = (secret["secret"] for secret in secrets["dynamic_active_secrets"])
        assert clusters["@type"] == "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"
        assert shown == list(it.holder.current.clusters)
        assert any(name.startswith("inbound-vip|") for name in shown)
        assert secrets["@type"] == "type.googleapis.com/envoy.admin.v3.SecretsConfigDump"
        assert _pem(chain["tls_certificate"]["certificate_chain"]) == own.chain_pem
        assert _pem(roots["validation_context"]["trusted_ca"]) == own.trust_bundle_pem
        assert base64.b64encode(own.private_key.pem).decode() not in text
        assert "PRIVATE" not in text

    run(scenario())


def _pem(source: dict[str, str]) -> bytes:
    return base64.b64decode(source["inline_bytes"])


def test_endpoints_are_shown_as_envoy_does_when_asked_for_json(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it, supervised([LocalWorker("worker", it.worker)]) as supervisor:
            found = json.loads((await get(supervisor, "/clusters?format=json"))[1])

        hosts = [host for cluster in found["cluster_statuses"] for host in cluster["host_statuses"]]
        assert {host["address"]["socket_address"]["address"] for host in hosts} == {at.pod}
        assert all(host["health_status"]["eds_health_status"] == "HEALTHY" for host in hosts)

    run(scenario())


def test_an_endpoint_that_one_worker_has_ejected_failed_its_outlier_check() -> None:
    def cluster(**ejected: float | None) -> dict[str, Any]:
        endpoints = [{"address": f"[fd00::{name}]:80", "ejected_for_seconds": it} for name, it in ejected.items()]
        return {"name": "c", "endpoints": endpoints}

    found = cluster_statuses([cluster(a=None, b=3.5), cluster(a=None, b=None), cluster(a=None)])

    assert found == {
        "cluster_statuses": [
            {
                "name": "c",
                "host_statuses": [
                    {
                        "address": {"socket_address": {"address": f"fd00::{name}", "port_value": 80}},
                        "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": is_ejected},
                    }
                    for name, is_ejected in (("a", False), ("b", True))
                ],
            }
        ]
    }
