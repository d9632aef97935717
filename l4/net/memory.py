"""Gives memory that is no longer used back to the system.

glibc does so by itself only at the end of its heap; what lies between things that are still used, it keeps. After a
burst of connections that is most of the heap: 45 of 56 MiB when two hundred hostile clients had come and gone for a
while, in a process of 61. Looking costs 0.05 ms when there is nothing to give back, and 1 ms when there was that much.
Where the allocator is another one, this does nothing.
"""

import asyncio
import ctypes

_SECONDS = 10.0
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)


async def give_back_unused() -> None:
    """Every few seconds, until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        give_back()


def give_back() -> None:
    if _TRIM is not None:
        _TRIM(0)
