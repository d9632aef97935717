"""Path templates of AuthorizationPolicy: `/shops/{*}/items/{**}`, `/store/{**}/cart`.

`{*}` matches one non-empty segment. `{**}` matches any number of segments; it may appear once, after all `{*}`.
Everything else is literal and case-sensitive. A segment may contain any character (Envoy does not match segments with
characters such as `|`): a path that evades a DENY because of one byte is worse than an ALLOW that matches one path
more.
https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation
"""

from dataclasses import dataclass
from typing import Self

_ONE = b"{*}"
_REST = b"{**}"


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """`segments` are the parts between slashes; None matches any segment.

    With `has_rest`, `{**}` follows them, and then the literal segments in `end`.
    """

    segments: tuple[bytes | None, ...]
    has_rest: bool = False
    end: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a template. Raises ValueError with an explanation."""
        first, *segments = text.encode().split(b"/")
        if first or not segments:
            raise ValueError(f"{text!r} is not a path template: it must begin with a slash")
        for segment in segments:
            if segment not in {_ONE, _REST} and any(byte in b"{}*" for byte in segment):
                raise ValueError(f"{text!r} is not a path template: a segment must be literal, {{*}} or {{**}}")
        has_rest = _REST in segments
        rest = segments.index(_REST) if has_rest else len(segments)
        end = segments[rest + 1 :]
        if _ONE in end or _REST in end:
            raise ValueError(f"{text!r} is not a path template: {{**}} may appear once, after every {{*}}")
        return cls(tuple(None if segment == _ONE else segment for segment in segments[:rest]), has_rest, tuple(end))

    def accepts(self, path: bytes) -> bool:
        """Whether the template matches. `/a/{**}` matches `/a/` and below, not `/a`; `/a/{**}/b` matches `/a//b`, not
        `/a/b`."""
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
