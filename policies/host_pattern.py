"""Host patterns of wildcard destinations: one name, or `*.example.com` with one or more labels for the star.

Only plain DNS names match, in any spelling, because a matching host may be resolved through DNS.
"""

import re
from dataclasses import dataclass

from policies.rewrite import split_port

_NAME = re.compile(
    rb"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
).fullmatch


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`text` is lower-case."""

    text: str

    def name_of(self, authority: bytes) -> str | None:
        """Return the DNS name in an authority or server name if it matches, or None.

        The last label of a name begins with a letter, so that an IP address never matches.
        """
        host = split_port(authority)[0].lower().removesuffix(b".")
        if _NAME(host) is None:
            return None
        name = host.decode("ascii")
        if self.text.startswith("*"):
            return name if name.endswith(self.text[1:]) and len(name) > len(self.text) - 1 else None
        return name if name == self.text else None
