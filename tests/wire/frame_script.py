"""Frame scripts: how the corpus writes what an HTTP/2 peer sends.

A line is a frame: its kind, stream, flags, and behind `: ` its payload. `next` is the stream after the last that was
opened so, `same` that one again. A mapping with `repeat` and `frames` stands for its frames, so many times.

    HEADERS 1 END_STREAM: GET | accept: */*     fields, of which GET, POST, CONNECT and 200 stand for whole heads;
                                                END_HEADERS goes without saying
    HEADERS 1 PIECES=3: GET | x: y              the same in HEADERS and two CONTINUATION frames
    BLOCK 1 END_STREAM: \\x82\\x86               a head in bytes
    DATA 1 END_STREAM: hello                    PAD=5 pads it
    SETTINGS 0: INITIAL_WINDOW_SIZE=0, 99=1     RST_STREAM 1: CANCEL        WINDOW_UPDATE 0: 1000
    FRAME 238 1 255: \\x00\\x01                   type, stream and flags as numbers, payload in bytes
    RAW: \\x00\\x00                               no frame at all
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hpack import Encoder

from l4.http2 import frames
from l4.http2.errors import ErrorCode
from policies.attributes import Headers
from tests.wire.corpus import unescaped

HEADS: dict[bytes, Headers] = {
    b"GET": [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")],
    b"POST": [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")],
    b"CONNECT": [(b":method", b"CONNECT"), (b":authority", b"app:80")],
    b"200": [(b":status", b"200")],
}
_LINE = re.compile(r"(\w+)(?: (\w+))?((?: [\w=]+)*)(?:: (.*))?", re.DOTALL).fullmatch
_FIELD = re.compile(rb"(:?[^:]*):(?: (.*))?", re.DOTALL).fullmatch
_LONG = {"WINDOW_UPDATE": frames.WINDOW_UPDATE, "RST_STREAM": frames.RST_STREAM}
_PLAIN = {"DATA": frames.DATA, "PING": frames.PING, "CONTINUATION": frames.CONTINUATION, "GOAWAY": frames.GOAWAY}
_FLAGS = {"END_STREAM": frames.END_STREAM, "END_HEADERS": frames.END_HEADERS, "ACK": frames.ACK}

Step = str | dict[str, "int | Sequence[Step]"]


@dataclass
class Writer:
    """Writes the frames of one peer, with its own HPACK state."""

    encoder: Encoder = field(default_factory=Encoder)
    stream_id: int = -1

    def write(self, script: Sequence[Step]) -> Iterator[bytes]:
        """Frame by frame."""
        for step in script:
            if isinstance(step, str):
                yield from self._frames(step)
            else:
                times, steps = step["repeat"], step["frames"]
                assert isinstance(times, int)
                assert not isinstance(steps, int)
                for _ in range(times):
                    yield from self.write(steps)

    def _frames(self, line: str) -> Iterator[bytes]:
        match = _LINE(line)
        assert match, f"no frame: {line!r}"
        kind, stream, options, text = match.groups("")
        payload = unescaped(text)
        if kind == "RAW":
            yield payload
            return
        if kind == "FRAME":
            number, stream_id, flags = int(stream), *map(int, options.split())
            yield frames.frame(number, flags, stream_id, payload)
            return
        stream_id = self._stream(stream)
        values = dict(option.partition("=")[::2] for option in options.split())
        flags = sum(_FLAGS[option] for option, value in values.items() if not value)
        match kind:
            case "HEADERS":
                yield from _head(stream_id, flags, self.encoder.encode(_fields(payload)), int(values.get("PIECES", 1)))
            case "BLOCK":
                yield from _head(stream_id, flags, payload, 1)
            case "SETTINGS":
                yield frames.frame(frames.SETTINGS, flags, stream_id, _settings(text))
            case "WINDOW_UPDATE" | "RST_STREAM":
                value = ErrorCode[text] if text in ErrorCode.__members__ else int(text)
                yield frames.frame(_LONG[kind], flags, stream_id, int(value).to_bytes(4))
            case "PRIORITY":
                yield frames.frame(frames.PRIORITY, flags, stream_id, payload or bytes([0, 0, 0, 0, 15]))
            case _:
                if "PAD" in values:
                    flags |= frames.PADDED
                    payload = bytes([int(values["PAD"])]) + payload + bytes(int(values["PAD"]))
                yield frames.frame(_PLAIN[kind], flags, stream_id, payload)

    def _stream(self, text: str) -> int:
        if text == "next":
            self.stream_id += 2
        return self.stream_id if text in ("next", "same") else int(text)


def _head(stream_id: int, flags: int, block: bytes, pieces: int) -> Iterator[bytes]:
    """One head in so many frames; where it has fewer bytes than that, the last ones are empty."""
    size = max(1, len(block) // pieces)
    for number in range(pieces):
        kind = frames.CONTINUATION if number else frames.HEADERS
        is_last = number == pieces - 1
        piece = block[number * size :] if is_last else block[number * size : (number + 1) * size]
        yield frames.frame(kind, (0 if number else flags) | (frames.END_HEADERS if is_last else 0), stream_id, piece)


def _fields(text: bytes) -> Headers:
    fields: Headers = []
    for part in text.split(b" | "):
        if part in HEADS:
            fields += HEADS[part]
            continue
        match = _FIELD(part)
        assert match, f"no field: {part!r}"
        fields.append((match[1], match[2] or b""))
    return fields


def _settings(text: str) -> bytes:
    payload = b""
    for pair in filter(None, text.split(", ")):
        name, _, value = pair.partition("=")
        number = int(name) if name.isdigit() else getattr(frames, name)
        payload += number.to_bytes(2) + int(value).to_bytes(4)
    return payload
