"""Header values with Envoy's command operators, such as `%DOWNSTREAM_REMOTE_ADDRESS%`.

`%%` is a percent sign, and so is a `%` that starts no command. A value that is not available (no client identity, no
such header) is `-`, as in Envoy. Unsupported commands are rejected when the value is parsed.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#custom-request-response-headers
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from policies import wire_text
from policies.attributes import Peer, RequestHead
from policies.host_port import host_port
from policies.wire_text import HeaderName, HeaderValue

_COMMAND = re.compile(r"%([A-Z_]+)(?:\(([^()%]*)\))?%|%%")
_UNKNOWN = b"-"


@dataclass(frozen=True, slots=True)
class Situation:
    """Inputs of a formatted value: the client, the address and port it called, and the head as received."""

    peer: Peer
    address: str
    port: int
    head: RequestHead


def _with_port(address: str, port: int) -> bytes:
    return host_port(address, port).encode()


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
    """The value of a request header."""

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
    """A parsed value. `text` is the source text; `_parts` are its constant and computed parts."""

    text: str
    _parts: tuple[bytes | Callable[[Situation], bytes], ...]

    @classmethod
    def parse(cls, text: str) -> Self | HeaderValue:
        """Parse a value. Returns a plain header value if nothing in it is computed.

        Raises ValueError with an explanation.
        """
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
    """A header to set, or, with `is_added`, to append to existing values."""

    name: HeaderName
    format: HeaderFormat
    is_added: bool = False


def _command(name: str, argument: str | None) -> Callable[[Situation], bytes]:
    if name == _OF_A_HEADER and argument:
        return _Header(argument.lower().encode())
    if name not in _COMMANDS or argument is not None:
        known = ", ".join(f"%{it}%" for it in _COMMANDS)
        raise ValueError(
            f"%{name}% is not supported; supported are {known} and %REQ(a-header)%; write %% for a percent sign"
        )
    return _COMMANDS[name]
