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
    known = [f"{it.key.namespace}/{it.key.name}" for it in resources.of(Gateway)]
    if not known:
        return f"there is no Gateway {name}, and no other Gateway either"
    close = get_close_matches(name, known, 1)
    if close:
        return f"there is no Gateway {name}; did you mean {close[0]}?"
    more = f" and {len(known) - _MAX_NAMES} more" if len(known) > _MAX_NAMES else ""
    return f"there is no Gateway {name}; there are {', '.join(known[:_MAX_NAMES])}{more}"
