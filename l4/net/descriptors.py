"""File descriptors: raise the limit, and keep a reserve that traffic cannot use.

The kernel assigns the lowest free number, so the number of a new descriptor shows how many are in use. Traffic in
either direction returns a descriptor from `ceiling` on at once. The reserve is for operator ports, and for what must be
opened under any load: configuration, certificates, DNS. Without it, anyone who opens enough connections could disable
these.
"""

import errno
import logging
import resource

log = logging.getLogger(__name__)

OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})

_SHARE = 4
"""One descriptor of this many is reserved, within the bounds below."""
_LEAST_RESERVED, _MOST_RESERVED = 32, 256
_OPERATOR_PORTS = 3
_LEAST_VISITS = 4
_UNLIMITED = 1 << 30
_SCARCE = 1024


class OutOfDescriptors(OSError):
    """Traffic may not open another descriptor."""

    def __init__(self) -> None:
        super().__init__(errno.EMFILE, "no file descriptor is left for traffic; raise the nofile limit")

    def __str__(self) -> str:
        return self.strerror or ""


def raise_limit() -> None:
    """Raise the soft limit, which is often 1024, to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if limit() < _SCARCE:
        log.warning(
            "only %d file descriptors are allowed, %d of them for traffic; raise the nofile limit", limit(), ceiling()
        )


def limit() -> int:
    """Number of descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def ceiling() -> int:
    """The first descriptor number that traffic must not use."""
    files = limit()
    return files - _reserve(files)


def visits_per_operator_port() -> int:
    """Connections allowed per operator port. All ports together use half of the reserve."""
    return max(_reserve(limit()) // 2 // _OPERATOR_PORTS, _LEAST_VISITS)


def lookups_at_once() -> int:
    """Number of concurrent DNS lookups or key fetches.

    Each needs one or two descriptors of the reserve, and there may be thousands of names.
    """
    return max(_reserve(limit()) // 8, 1)


def _reserve(files: int) -> int:
    return min(max(files // _SHARE, _LEAST_RESERVED), _MOST_RESERVED)
