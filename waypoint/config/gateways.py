"""Gateways in documents: the address of a Gateway without one, and suggestions for a wrong name.

A Gateway without a status, as in hand-written manifests, gets the address of its waypoint's Service. The Gateway that
the process serves gets it too, whatever its status says: its waypoint is running and serves what is bound to it.
"""

from dataclasses import replace
from difflib import get_close_matches

from l4.config.documents import Document
from l4.config.resources import Resources
from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from l4.discovery.objects import Gateway

_MAX_NAMES = 5


def with_address(document: Document, settings: Settings, gateway: tuple[str, str] | None) -> Document:
    """Return the document with an address. `gateway` is the (namespace, name) of the served Gateway, or None
    for all."""
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


def why_no_gateway(resources: Resources, gateway: tuple[str, str]) -> str:
    """Return a sentence that says that the Gateway does not exist, with suggestions."""
    name = "/".join(gateway)
    keys = [it.key for it in resources.of(Gateway)]
    if not keys:
        return f"there is no Gateway {name}, and no other Gateway either"
    known = [f"{key.namespace}/{key.name}" for key in keys]
    close = get_close_matches(gateway[1], [key.name for key in keys], 1)  # namespaces are alike anyway
    if close:
        meant = next(full for full, key in zip(known, keys, strict=True) if key.name == close[0])
        return f"there is no Gateway {name}; did you mean {meant}?"
    more = f" and {len(known) - _MAX_NAMES} more" if len(known) > _MAX_NAMES else ""
    return f"there is no Gateway {name}; there are {', '.join(known[:_MAX_NAMES])}{more}"
