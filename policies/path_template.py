"""Path templates of AuthorizationPolicy: `/shops/{*}/items/{**}`, `/store/{**}/cart`.

`{*}` is one segment that is not empty, `{**}` any number of them, once and after all `{*}`; everything else is literal
and case-sensitive. What a segment may hold is not asked (Envoy passes over segments with characters such as `|`): a
path that would slip through a DENY because of one of its bytes is worse than one too many that an ALLOW takes.
https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation
"""

from dataclasses import dataclass
from typing import Self

_ONE = b"{*}"
_REST = b"{**}"


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """`segments` are those between the slashes, `None` where one may be anything. With `has_rest`, `{**}` follows them,
    and then the segments of `end`."""

    segments: tuple[bytes | None, ...]
    has_rest: bool = False
    end: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with a sentence."""
        first, *segments = text.encode().split(b"/")
        if first or not segments:
            raise ValueError(f"{text!r} is no path template: it begins with a slash")
        for segment in segments:
            if segment not in {_ONE, _REST} and any(byte in b"{}*" for byte in segment):
                raise ValueError(f"{text!r} is no path template: a segment is literal, {{*}} or {{**}} as a whole")
        has_rest = _REST in segments
        rest = segments.index(_REST) if has_rest else len(segments)
        end = segments[rest + 1 :]
        if _ONE in end or _REST in end:
            raise ValueError(f"{text!r} is no path template: {{**}} stands there once at most, and behind every {{*}}")
        return cls(tuple(None if segment == _ONE else segment for segment in segments[:rest]), has_rest, tuple(end))

    def accepts(self, path: bytes) -> bool:
        """`/a/{**}` takes `/a/` and what is below it, not `/a`; `/a/{**}/b` takes `/a//b`, not `/a/b`."""
        first, *segments = path.split(b"/")
        count = len(self.segments)
        if first or (len(segments) <= count + len(self.end) if self.has_rest else len(segments) != count):
            return False
        if self.end and tuple(segments[-len(self.end) :]) != self.end:
            return False
        return all(
            bool(segment) if wanted is None else segment == wanted
            for wanted, segment in zip(self.segments, segments, strict=False)
        )


def is_template(text: str) -> bool:
    return "{*}" in text or "{**}" in text
