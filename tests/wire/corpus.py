"""The corpus: messages as data, each with a name, its bytes and the verdict. `README.md` describes the files.

Bytes are written as text in which the end of a line means nothing: `\\r\\n` is written where it is meant. There are
`\\r \\n \\t \\\\`, `\\xNN` for any byte, `\\{70000*x}` for repetition. Everything else stands for itself.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
VERDICTS = ("valid", "invalid")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|\{(\d+)\*((?:[^\\}]|\\.)*)\}|(.))", re.DOTALL)
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}


@dataclass(frozen=True, slots=True)
class RequestCase:
    """What a client sends, and what becomes of it."""

    name: str
    send: bytes
    statuses: tuple[int, ...]
    """Of all answers, in order, when the application answers 200 to everything."""
    upstream: bytes
    """The whole requests that the application must receive: in canonical form, chunked bodies in one chunk, without the
    headers that the waypoint adds."""
    opaque: bytes
    """What follows a request to upgrade, and is no HTTP to us."""
    limit: str
    """What the refusal is counted under; empty when nothing is refused, or not counted."""
    is_valid: bool


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """What an application answers, and what becomes of it."""

    name: str
    method: bytes
    upgrade: bytes
    send: bytes
    closes: bool
    """The application closes the connection after it."""
    downstream: bytes
    """What the client must receive, in canonical form, without the headers that the waypoint adds."""
    is_reusable: bool
    """The connection may serve another request."""
    refusal: str
    """`head` when the client must get 502 instead, `body` when its response must be cut, `after` when it is whole but
    the bytes after it cost the connection; else empty."""


@dataclass(frozen=True, slots=True)
class Http2Case:
    """Frames that a peer sends, and what becomes of them."""

    name: str
    is_client: bool
    """The role of the peer that sends them."""
    script: tuple[Any, ...]
    limits: dict[str, Any]
    is_unread: bool
    """Nothing of what it sends is given back to its windows."""
    delivered: dict[int, str]
    """Stream → the whole message that came of it, as `GET / body`, or `200 body`."""
    forwarded: dict[int, str]
    """What a waypoint makes of that."""
    resets: dict[int, str]
    goaway: str
    limit: str
    """The name of the limit that was exceeded, if that is why."""
    by_the_library: str
    """The code of the library's GOAWAY where it has no smaller consequence, or another name for the mistake."""


Case = RequestCase | ResponseCase | Http2Case


def unescaped(text: str | bytes) -> bytes:
    """The bytes that a text of the corpus stands for."""
    raw = text.encode("latin-1") if isinstance(text, str) else text
    return _ESCAPE.sub(_byte, raw.replace(b"\n", b""))


def _byte(match: re.Match[bytes]) -> bytes:
    number, times, repeated, letter = match.groups()
    if number is not None:
        return bytes([int(number, 16)])
    if times is not None:
        return unescaped(repeated) * int(times)
    return _LETTERS[letter]


def requests() -> list[RequestCase]:
    return [
        RequestCase(
            name=name,
            send=unescaped(it.pop("send")),
            statuses=tuple(it.pop("statuses", None) or [it.pop("status", 200)]),
            upstream=unescaped(it.pop("upstream", "")),
            opaque=unescaped(it.pop("opaque", "")),
            limit=it.pop("limit", "" if is_valid else "malformed_http"),
            is_valid=is_valid,
        )
        for name, is_valid, it in _read("requests-*.yaml")
    ]


def responses() -> list[ResponseCase]:
    return [
        ResponseCase(
            name=name,
            method=it.pop("method", "GET").encode(),
            upgrade=it.pop("upgrade", "").encode(),
            send=unescaped(it.pop("send")),
            closes=it.pop("closes", False),
            downstream=unescaped(it.pop("downstream", "")),
            is_reusable=it.pop("reusable", is_valid),
            refusal="" if is_valid else it.pop("refused", "head"),
        )
        for name, is_valid, it in _read("responses-*.yaml")
    ]


def http2() -> list[Http2Case]:
    return [
        Http2Case(
            name=name,
            is_client=it.pop("peer", "client") == "client",
            script=tuple(it.pop("script")),
            limits=it.pop("limits", {}),
            is_unread=it.pop("unread", False),
            delivered=(delivered := it.pop("delivered", {})),
            forwarded=it.pop("forwarded", delivered),
            resets=it.pop("resets", {}),
            goaway=it.pop("goaway", ""),
            limit=it.pop("limit", ""),
            by_the_library=it.pop("library", ""),
        )
        for name, _, it in _read("http2-*.yaml")
    ]


def _read(pattern: str) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """Every case of the files, as its name, whether it is valid, and its fields, all of which must be known."""
    for verdict in VERDICTS:
        for path in sorted(FOLDER.glob(f"{verdict}/{pattern}")):
            family = path.stem.partition("-")[2]
            for name, fields in yaml.load(path.read_bytes(), _Loader).items():
                remaining = dict(fields)
                yield f"{family}: {name}", verdict == "valid", remaining
                assert not remaining, f"{path.name}, {name!r}: unknown {', '.join(remaining)}"


class _Loader(yaml.CSafeLoader):
    """Refuses two cases of one name, of which YAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        assert len(names) == len(set(names)), f"{node.start_mark}: a name is there twice"
        return super().construct_mapping(node, deep)


def cuts(message: bytes) -> Iterator[list[bytes]]:
    """The message whole, by line, head by head, byte by byte, and cut at random."""
    yield [message]
    yield message.splitlines(keepends=True)
    yield [message[:1], *filter(None, re.split(rb"(?<=\r\n\r\n)", message[1:]))]
    yield [message[i : i + 1] for i in range(len(message))]
    chance = random.Random(message)
    for _ in range(5):
        places = sorted(chance.sample(range(1, len(message)), min(len(message) - 1, chance.randint(1, 6))))
        yield [message[start:end] for start, end in zip([0, *places], [*places, len(message)], strict=True)]
