"""Limit the number of connections of a process.

Connections beyond the limit are accepted and closed: clients notice at once, and open connections keep the file
descriptors that they need.
"""

import resource

_SHARE_OF_FILES = 0.4
"""Each connection may need a second one upstream; the rest is for configuration, DNS and operators."""


class Capacity:
    """Shared by all listeners of a process."""

    __slots__ = ("_left", "is_shut")

    def __init__(self, max_connections: int) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            max_connections = min(max_connections, int(files * _SHARE_OF_FILES))
        self._left = max_connections
        self.is_shut = False  # whether all new connections are refused for now

    def take(self) -> bool:
        """Take a place for a connection if there is one. Returns whether there was."""
        if self.is_shut or self._left <= 0:
            return False
        self._left -= 1
        return True

    @property
    def limit(self) -> str:
        """Name of the setting that made `take` refuse."""
        return "memory_limit_bytes" if self.is_shut else "max_connections"

    def give_back(self) -> None:
        self._left += 1
