"""The steps from documents to a snapshot: the same for the program that serves and for the tools that are asked.

A Gateway without a status, as everybody writes it by hand, counts as having the address that its waypoint's Service
gives it. So does, whatever its status says, the one whose name was given: its waypoint is there, and serves what is
bound to it, address or not.
"""

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from l4.config.documents import Document, Problem
from l4.config.resources import Decoder, Resources
from l4.config.settings import Settings
from l4.discovery import kubernetes
from l4.discovery.kubernetes import Gateway, Mesh
from l4.discovery.registry import Registry
from waypoint.config.compile import Compilation
from waypoint.config.kinds import KINDS
from waypoint.config.settings import ConfigSettings
from waypoint.http.settings import HttpSettings

_MAX_NAMES = 5


def decoder_of(settings: Settings, gateway: tuple[str, str] | None) -> Decoder:
    """`gateway` is the namespace and name of the one that is served or asked about, None for all of them."""
    return Decoder(KINDS, lambda document: _with_address(document, settings, gateway))


def registry_of(resources: Resources, settings: Settings) -> Registry:
    return kubernetes.registry_of(resources, settings.of(Mesh))


def compilation_of(
    resources: Resources,
    registry: Registry,
    *,
    gateway: tuple[str, str],
    settings: Settings,
    problems: Iterable[Problem],
    own_ip: str | None = None,
    denied: frozenset[str] = frozenset(),
) -> Compilation:
    """What the waypoint of `gateway` is to do; `problems` are those of its documents and resources."""
    return Compilation(
        resources,
        registry,
        gateway=gateway,
        problems=problems,
        requires_reference_grants=settings.of(ConfigSettings).requires_reference_grants,
        path_normalization=settings.of(HttpSettings).path_normalization,
        own_ip=own_ip,
        trust_domains=settings.of(Mesh).trust_domains,
        denied=denied,
    )


def why_no_gateway(resources: Resources, gateway: tuple[str, str]) -> str:
    """A sentence for whoever named a Gateway that is not there."""
    name = "/".join(gateway)
    known = [f"{it.key.namespace}/{it.key.name}" for it in resources.of(Gateway)]
    if not known:
        return f"there is no Gateway {name}, and no other one"
    close = get_close_matches(name, known, 1)
    if close:
        return f"there is no Gateway {name}; did you mean {close[0]}?"
    more = f" and {len(known) - _MAX_NAMES} more" if len(known) > _MAX_NAMES else ""
    return f"there is no Gateway {name}; there are {', '.join(known[:_MAX_NAMES])}{more}"


def _with_address(document: Document, settings: Settings, gateway: tuple[str, str] | None) -> Document:
    key, content = document.key, document.content
    if key.kind != "Gateway" or key.group != "gateway.networking.k8s.io":
        return document
    status = content.get("status") or {}
    if not isinstance(status, dict) or status.get("addresses"):
        return document
    if status and (key.namespace, key.name) != gateway:
        return document
    hostname = f"{key.name}.{key.namespace}.svc.{settings.of(Mesh).cluster_domain}"
    addresses = [{"type": "Hostname", "value": hostname}]
    return replace(document, content={**content, "status": {**status, "addresses": addresses}})
