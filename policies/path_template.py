"""Path templates of AuthorizationPolicy: `/shops/{*}/items/{**}`.

`{*}` is one segment that is not empty, `{**}` any number of them and only at the end; everything else is literal and
case-sensitive. What a segment may hold is not asked (Envoy passes over segments with characters such as `|`): a path
that would slip through a DENY because of one of its bytes is worse than one too many that an ALLOW takes.
https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation
"""

from dataclasses import dataclass
from typing import Self

_ONE = b"{*}"
_REST = b"{**}"


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """`segments` are those between the slashes, `None` where one may be anything; `has_rest` ends it with `{**}`."""

    segments: tuple[bytes | None, ...]
    has_rest: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with a sentence."""
        first, *segments = text.encode().split(b"/")
        if first or not segments:
            raise ValueError(f"{text!r} is no path template: it begins with a slash")
        has_rest = segments[-1] == _REST
        if has_rest:
            segments.pop()
        for segment in segments:
            if segment == _REST:
                raise ValueError(f"{text!r} is no path template: {{**}} stands at its end, or not at all")
            if segment != _ONE and any(byte in b"{}*" for byte in segment):
                raise ValueError(f"{text!r} is no path template: a segment is literal, {{*}} or {{**}} as a whole")
        return cls(tuple(None if segment == _ONE else segment for segment in segments), has_rest)

    def accepts(self, path: bytes) -> bool:
        """`/a/{**}` takes `/a/` and what is below it, not `/a`."""
        first, *segments = path.split(b"/")
        count = len(self.segments)
        if first or (len(segments) <= count if self.has_rest else len(segments) != count):
            return False
        return all(
            bool(segment) if wanted is None else segment == wanted
            for wanted, segment in zip(self.segments, segments, strict=False)
        )


def is_template(text: str) -> bool:
    return "{*}" in text or "{**}" in text
