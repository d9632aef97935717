"""Which hosts a destination takes that is open to many: one name, or `*.example.com` with one or more labels before it.

A host that is no plain DNS name is never taken, however it is written: what is taken may be looked up.
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
        """The DNS name in an authority or a server name, if it is one that is taken. The last label of a name begins
        with a letter, so that no address passes for one."""
        host = split_port(authority)[0].lower().removesuffix(b".")
        if _NAME(host) is None:
            return None
        name = host.decode("ascii")
        if self.text.startswith("*"):
            return name if name.endswith(self.text[1:]) and len(name) > len(self.text) - 1 else None
        return name if name == self.text else None
