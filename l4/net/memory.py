"""Return unused memory to the operating system.

glibc does this only for the end of its heap. After a burst of connections most free memory lies between used blocks: 45
of 56 MiB after two hundred hostile clients had come and gone, in a process of 61 MiB. A call costs 0.05 ms if there is
nothing to return, and 1 ms for that much. With other allocators this does nothing.
"""

import asyncio
import ctypes

_SECONDS = 10.0
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)


async def give_back_unused() -> None:
    """Return memory every few seconds until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        give_back()


def give_back() -> None:
    if _TRIM is not None:
        _TRIM(0)
