"""File descriptors: as many as the system allows, and a reserve that traffic never uses up.

The kernel gives each new descriptor the lowest free number, so the number alone tells how many are in use. What carries
traffic, in either direction, gives a descriptor from `ceiling` on back at once. The rest stays for the operator ports
and for what must be opened whatever the load is: configuration, certificates, name servers. Without it, anybody who
opens enough connections makes the process blind.
"""

import errno
import logging
import resource

log = logging.getLogger(__name__)

OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})

_SHARE = 4
"""One descriptor of so many is reserved, within these bounds."""
_LEAST_RESERVED, _MOST_RESERVED = 32, 256
_OPERATOR_PORTS = 3
_LEAST_VISITS = 4
_UNLIMITED = 1 << 30
_SCARCE = 1024


class OutOfDescriptors(OSError):
    """Traffic may open no further descriptor."""

    def __init__(self) -> None:
        super().__init__(errno.EMFILE, "no file descriptor is left for traffic; raise the limit (nofile)")

    def __str__(self) -> str:
        return self.strerror or ""


def raise_limit() -> None:
    """Take all the descriptors that the system allows: the soft limit is often 1024, the hard one far above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if limit() < _SCARCE:
        log.warning("only %d file descriptors may be open, %d of them by traffic; raise nofile", limit(), ceiling())


def limit() -> int:
    """How many descriptors the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def ceiling() -> int:
    """The first number that traffic may not have."""
    files = limit()
    return files - _reserve(files)


def visits_per_operator_port() -> int:
    """How many connections each operator port may hold; all of them together take half of the reserve."""
    return max(_reserve(limit()) // 2 // _OPERATOR_PORTS, _LEAST_VISITS)


def lookups_at_once() -> int:
    """How many names may be looked up at once, or how many issuers' keys fetched: each takes a descriptor or two of the
    reserve, and there may be thousands of names."""
    return max(_reserve(limit()) // 8, 1)


def _reserve(files: int) -> int:
    return min(max(files // _SHARE, _LEAST_RESERVED), _MOST_RESERVED)
