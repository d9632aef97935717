"""What a bug report has of a cluster's pods: their logs, and the Events of their namespaces and of nodes."""

from collections.abc import Mapping
from typing import Any

import msgspec

from l4.asking.admin import CannotAsk
from l4.asking.pods import PodName, find_pods
from l4.asking.reach import HOME, Target
from l4.configuration import client_of
from l4.kubernetes.client import ApiClient, ApiError, ResourceType
from l4.kubernetes.credentials import CredentialsError
from l4.kubernetes.options import KubernetesOptions
from l4.kubernetes.port_forward import PODS
from waypoint.commands.archive import Archive, folder_of

MAX_EVENTS = 5000
"""Of a namespace, or of nodes. The API server forgets Events after an hour."""
_LOG_BYTES = 4 << 20
_EVENTS = ResourceType("", "v1", "events", "Event")
_NODES_ARE_TOLD_OF_IN = "default"
_OF_NODES = {"fieldSelector": "involvedObject.kind=Node"}


async def collect_pods(archive: Archive, target: Target) -> None:
    """Add the logs of the target's pods, the ztunnels, the agents and the controller, and the Events beside them."""
    with archive.trying("logs and events", CredentialsError):
        client = client_of(KubernetesOptions(target.kubeconfig, target.context))
        namespace = target.namespace or "default"
        try:
            for program, of, name, node in (
                ("waypoint", namespace, target.name, target.node),
                ("ztunnel", HOME, "ds/ztunnel", target.node),
                ("agent", HOME, "ds/pywaypoint-agent", target.node),
                ("controller", HOME, "deploy/pywaypoint-controller", ""),
            ):
                with archive.trying(f"logs of {program}", CannotAsk):
                    for pod in await find_pods(client, of, name, node):
                        await _log(archive, client, program, pod)
            for it in sorted({namespace, HOME}):
                await _events(archive, client, f"events/namespaces/{it}.json", it, {})
            await _events(archive, client, "events/nodes.json", _NODES_ARE_TOLD_OF_IN, _OF_NODES)
        finally:
            await client.close()


async def _log(archive: Archive, client: ApiClient, program: str, pod: PodName) -> None:
    with archive.trying(f"the log of {pod}", ApiError):
        text = await client.get(PODS.path(pod.namespace, pod.name, "log"), {"limitBytes": str(_LOG_BYTES)})
        lines = text.decode(errors="replace").splitlines(keepends=True)
        archive.add_text(f"{folder_of(program, str(pod))}/log.txt", "".join(it for it in lines if not _is_access(it)))


async def _events(archive: Archive, client: ApiClient, name: str, namespace: str, query: Mapping[str, str]) -> None:
    found: list[Any] = []
    with archive.trying(name, ApiError):
        async for page in client.pages(_EVENTS.path(namespace), query):
            found += map(msgspec.json.decode, page.items)
            if len(found) > MAX_EVENTS:
                archive.failures.append(f"{name}: there are more than {MAX_EVENTS} events; some are missing")
                break
        archive.add_values(name, sorted(found[:MAX_EVENTS], key=_last_time))


def _last_time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))


def _is_access(line: str) -> bool:
    """Whether a line of a pod's output is of the access log of a waypoint or a ztunnel."""
    return line.startswith("[2") or "\taccess\t" in line
