"""How many connections a process accepts. The surplus is accepted and closed: clients are told at once, and what is
open keeps the file descriptors it needs."""

import resource

_SHARE_OF_FILES = 0.4
"""Each connection may need another one onwards; the rest is for configuration, name servers and operators."""


class Capacity:
    """Shared by all listeners of a process."""

    __slots__ = ("_left", "is_shut")

    def __init__(self, max_connections: int) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            max_connections = min(max_connections, int(files * _SHARE_OF_FILES))
        self._left = max_connections
        self.is_shut = False  # nothing more is let in for now

    def take(self) -> bool:
        """Whether there is room for one connection more; if so, it is taken."""
        if self.is_shut or self._left <= 0:
            return False
        self._left -= 1
        return True

    @property
    def limit(self) -> str:
        """The setting because of which `take` has refused."""
        return "memory_limit_bytes" if self.is_shut else "max_connections"

    def give_back(self) -> None:
        self._left += 1
