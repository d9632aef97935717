"""Header values that tell of the request's connection: Envoy's `%DOWNSTREAM_REMOTE_ADDRESS%` and a few of its kind.

`%%` is a percent sign, and so is one that begins no command. What is not known (a client without an identity, a header
that isn't there) is `-`, as in Envoy. A command that is not carried out is refused when the value is read.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#custom-request-response-headers
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from policies import wire_text
from policies.attributes import Peer, RequestHead
from policies.wire_text import HeaderName, HeaderValue

_COMMAND = re.compile(r"%([A-Z_]+)(?:\(([^()%]*)\))?%|%%")
_UNKNOWN = b"-"


@dataclass(frozen=True, slots=True)
class Situation:
    """What a value may tell of: who asks, which address and port were called, and the head as it came."""

    peer: Peer
    address: str
    port: int
    head: RequestHead


def _with_port(address: str, port: int) -> bytes:
    return (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()


def _identity(it: Situation) -> bytes:
    return str(it.peer.identity).encode() if it.peer.identity is not None else _UNKNOWN


_COMMANDS: Mapping[str, Callable[[Situation], bytes]] = {
    "DOWNSTREAM_REMOTE_ADDRESS": lambda it: _with_port(it.peer.ip, it.peer.port),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda it: it.peer.ip.encode(),
    "DOWNSTREAM_REMOTE_PORT": lambda it: b"%d" % it.peer.port,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda it: _with_port(it.peer.ip, it.peer.port),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": lambda it: it.peer.ip.encode(),
    "DOWNSTREAM_LOCAL_ADDRESS": lambda it: _with_port(it.address, it.port),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda it: it.address.encode(),
    "DOWNSTREAM_LOCAL_PORT": lambda it: b"%d" % it.port,
    "DOWNSTREAM_PEER_URI_SAN": _identity,
}
_OF_A_HEADER = "REQ"


@dataclass(frozen=True, slots=True)
class _Header:
    """The value of a header of the request, which is one that can be sent."""

    name: bytes

    def __call__(self, it: Situation) -> bytes:
        head = it.head
        match self.name:
            case b":path":
                return head.target
            case b":method":
                return head.method
            case b":authority" | b"host":
                return head.authority
        return head.get(self.name) or _UNKNOWN


@dataclass(frozen=True, slots=True)
class HeaderFormat:
    """`text` as it is written; made into `_parts`, those that are always the same and those that are found out."""

    text: str
    _parts: tuple[bytes | Callable[[Situation], bytes], ...]

    @classmethod
    def parse(cls, text: str) -> Self | HeaderValue:
        """A value that is always the same is one already. Raises ValueError with a sentence."""
        parts: list[bytes | Callable[[Situation], bytes]] = []
        end = 0
        for found in _COMMAND.finditer(text):
            parts.append(text[end : found.start()].encode())
            parts.append(b"%" if found[1] is None else _command(found[1], found[2]))
            end = found.end()
        parts.append(text[end:].encode())
        plain = wire_text.header_value(b"".join(it if isinstance(it, bytes) else _UNKNOWN for it in parts))
        return plain if all(isinstance(it, bytes) for it in parts) else cls(text, tuple(parts))

    def fill(self, situation: Situation) -> HeaderValue:
        filled = b"".join(it if isinstance(it, bytes) else it(situation) for it in self._parts)
        return wire_text.header_value(filled.strip(b" \t"))


@dataclass(frozen=True, slots=True)
class FormattedHeader:
    """A header that is set, or `is_added` beside those that are there."""

    name: HeaderName
    format: HeaderFormat
    is_added: bool = False


def _command(name: str, argument: str | None) -> Callable[[Situation], bytes]:
    if name == _OF_A_HEADER and argument:
        return _Header(argument.lower().encode())
    if name not in _COMMANDS or argument is not None:
        known = ", ".join(f"%{it}%" for it in _COMMANDS)
        raise ValueError(f"%{name}% is not carried out; known are {known} and %REQ(a-header)%; %% is a percent sign")
    return _COMMANDS[name]
