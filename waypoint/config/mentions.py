"""The services that routes and policies may refer to.

A new Service changes how an object that names it compiles: a route to nowhere becomes a route to the Service. The
references are spread over a dozen kinds, so this module compares words only: an object that refers to a Service
contains the Service's name.
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
"""Kinds that describe the mesh itself, and name Services only for that purpose."""
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Mentions:
    """The words of one configuration."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._words: frozenset[bytes] | None = None

    def may_mean(self, name: str) -> bool:
        """Whether any object may refer to a Service of this name."""
        if self._words is None:
            self._words = frozenset(self._found())
        return name.encode() in self._words

    def _found(self) -> Iterator[bytes]:
        for resource in self._resources:
            if type(resource.value) not in _OF_THE_MESH:
                yield from _WORD.findall(_ESCAPE.sub(b" ", _encode(resource.value)).lower())
