"""Logs and Events in a bug report, from an API server over HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.asking.reach import HOME, Target
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.waypoint.commands.test_archive import files_of
from waypoint.commands import collecting_pods
from waypoint.commands.archive import Archive
from waypoint.commands.collecting_pods import collect_pods

PODS_OF = {
    "shop": ("Deployment", "waypoint"),
    "ztunnel": ("DaemonSet", "ztunnel"),
    "agent": ("DaemonSet", "pywaypoint-agent"),
    "controller": ("Deployment", "pywaypoint-controller"),
}
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
LOG = f'[2026-01-01T00:00:00Z] "GET / HTTP/1.1" 200\n2026-01-01 00:00:00 INFO l4.node: sent Bearer {TOKEN}\n'


def event(last: str | None, reason: str, **rest: Any) -> dict[str, Any]:
    return {"reason": reason, "lastTimestamp": last, "metadata": {}, **rest}


@asynccontextmanager
async def cluster() -> AsyncIterator[KubernetesServer]:
    """A waypoint in `shop`, and the programs that the chart installs, of one pod each."""
    async with kubernetes_server() as server:
        server.served |= {"pods", "events"}
        for name, (kind, owner) in PODS_OF.items():
            namespace = "shop" if name == "shop" else HOME
            labels = {"app": owner}
            owners = f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s"
            server.put(f"{owners}/{owner}", {"spec": {"selector": {"matchLabels": labels}}})
            pod = f"/api/v1/namespaces/{namespace}/pods/{owner}-1"
            server.put(pod, {"metadata": {"labels": labels}, "status": {"phase": "Running"}})
            server.logs[pod] = LOG
        yield server


def collected(server: KubernetesServer, folder: Path) -> Target:
    config = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": server.address}}],
        "users": [{"name": "it", "user": {"token": "t"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return Target("waypoint", "deploy/waypoint", namespace="shop", kubeconfig=path)


def report_of(
    server_has: dict[str, dict[str, Any]], folder: Path, forbidden: str = ""
) -> tuple[dict[str, str], Archive]:
    archive = Archive()

    async def main() -> None:
        async with cluster() as server:
            server.forbidden |= {forbidden} - {""}
            for path, content in server_has.items():
                server.put(path, content)
            await collect_pods(archive, collected(server, folder))

    run(main())
    archive.write(folder / "report")
    return files_of(folder / "report"), archive


def test_logs_of_all_programs_are_there_without_access_logs_and_tokens(tmp_path: Path) -> None:
    files, archive = report_of({}, tmp_path)

    logs = {it: text for it, text in files.items() if it.endswith("/log.txt")}
    assert {it.split("/")[2] for it in logs} == {"waypoint", "ztunnel", "agent", "controller"}
    assert {*logs.values()} == {"2026-01-01 00:00:00 INFO l4.node: sent Bearer (redacted)\n"}
    assert archive.failures == []


def test_events_of_both_namespaces_and_of_nodes_are_there_in_their_order(tmp_path: Path) -> None:
    shop, home, default = (f"/api/v1/namespaces/{it}/events" for it in ("shop", HOME, "default"))
    series = event(None, "second", eventTime="2026-01-01T00:00:02.000000Z")
    events = {
        f"{shop}/a": event("2026-01-01T00:00:03Z", "third"),
        f"{shop}/b": event("2026-01-01T00:00:01Z", "first"),
        f"{shop}/c": series,
        f"{home}/d": event("2026-01-01T00:00:01Z", "FailedMount", message=f"with the token {TOKEN}"),
        f"{default}/e": event("2026-01-01T00:00:01Z", "NodeReady", involvedObject={"kind": "Node"}),
        f"{default}/f": event("2026-01-01T00:00:01Z", "BackOff", involvedObject={"kind": "Pod"}),
    }

    files, _ = report_of(events, tmp_path)

    def found(name: str) -> list[dict[str, Any]]:
        return list(json.loads(files[f"bug-report/events/{name}.json"]))

    assert [it["reason"] for it in found("namespaces/shop")] == ["first", "second", "third"]
    assert [it["message"] for it in found(f"namespaces/{HOME}")] == ["with the token (redacted)"]
    assert [it["reason"] for it in found("nodes")] == ["NodeReady"]


def test_of_too_many_events_some_are_missing_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting_pods, "MAX_EVENTS", 2)
    path = "/api/v1/namespaces/shop/events"

    files, archive = report_of({f"{path}/{it}": event(None, str(it)) for it in range(3)}, tmp_path)

    assert len(json.loads(files["bug-report/events/namespaces/shop.json"])) == 2
    assert archive.failures == ["events/namespaces/shop.json: there are more than 2 events; some are missing"]


def test_without_the_right_to_read_events_logs_are_there(tmp_path: Path) -> None:
    files, archive = report_of({}, tmp_path, forbidden="events")

    assert len([it for it in files if it.endswith("/log.txt")]) == 4
    assert len(archive.failures) == 3
    assert "403" in archive.failures[0]
