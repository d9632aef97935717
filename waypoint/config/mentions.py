"""Which services routes and policies may be speaking of.

A new Service changes what is made of an object that names it: a route that led nowhere leads somewhere. Who names what
is spread over a dozen kinds, so this looks at words alone: whatever names a Service has the Service's name in it.
"""

import re
from collections.abc import Iterator

import msgspec

from l4.config.resources import Resources
from l4.discovery import kubernetes
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.service_entry import ServiceEntry

_WORD = re.compile(rb"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|.)")
_OF_THE_MESH = frozenset(kubernetes.KINDS.values()) - {AuthorizationPolicy, ServiceEntry}
"""What says who is where, and names Services only to say so."""
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Mentions:
    """Of one configuration."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._words: frozenset[bytes] | None = None

    def may_mean(self, name: str) -> bool:
        """Whether any object may speak of a Service of this name."""
        if self._words is None:
            self._words = frozenset(self._found())
        return name.encode() in self._words

    def _found(self) -> Iterator[bytes]:
        for resource in self._resources:
            if type(resource.value) not in _OF_THE_MESH:
                yield from _WORD.findall(_ESCAPE.sub(b" ", _encode(resource.value)).lower())
