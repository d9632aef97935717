"""Changes in folders, as reported by the kernel: Linux's inotify(7).

inotify reports at once and costs nothing while nothing changes, but it does not report everything. It does not know
about changes that other machines make on a network volume, nor about the target of a link. Its queue overflows, and the
number of watches is limited. So a user of this module must also look at the files from time to time, and always if
`Notices` is not available.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Self

_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_WANTED = (
    _MODIFY
    | _ATTRIB
    | _CLOSE_WRITE
    | _MOVED_FROM
    | _MOVED_TO
    | _CREATE
    | _DELETE
    | _DELETE_SELF
    | _MOVE_SELF
    | _ONLYDIR
)
_OF_THE_FOLDER = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
_HEAD = struct.Struct("iIII")
_READ_BYTES = 64 << 10
_MAX_PATHS = 4096
"""More changed paths than these are reported as "anything"."""


@dataclass(frozen=True, slots=True)
class Told:
    """The paths at which something changed. `is_all`: these are all; otherwise anything may have changed anywhere."""

    paths: frozenset[str] = frozenset()
    is_all: bool = True

    def __bool__(self) -> bool:
        return bool(self.paths) or not self.is_all


class Notices:
    """The inotify watches of one event loop, open until `close`. `is_on_each`: each followed folder is watched."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._folders: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._paths: set[str] = set()
        self._is_all = True
        self.is_on_each = False
        self._is_any = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    @classmethod
    def open(cls) -> Self | None:
        """Return None if the system has no inotify, or this user has no inotify instances left."""
        functions = _functions()
        if functions is None:
            return None
        descriptor = functions.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(descriptor) if descriptor >= 0 else None

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def follow(self, folders: Collection[str]) -> bool:
        """Watch these folders and no others. Returns whether each was watched already, so that no change in it was
        missed."""
        functions = _functions()
        assert functions is not None
        wanted = set(folders)
        for gone in self._numbers.keys() - wanted:
            functions.inotify_rm_watch(self._descriptor, self._drop(self._numbers[gone]))
        new = wanted - self._numbers.keys()
        for folder in sorted(new):
            number = functions.inotify_add_watch(self._descriptor, os.fsencode(folder), _WANTED)
            if number >= 0:
                self._drop(number)  # two names of one folder have one watch, and that is the later one's
                self._folders[number], self._numbers[folder] = folder, number
        self.is_on_each = self._numbers.keys() >= wanted
        return not new

    async def wait(self, seconds: float) -> bool:
        """Wait for changes for at most `seconds`. Returns whether there are any."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_any.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> Told:
        """Return the changes reported since the last call, up to this moment."""
        self._read()
        told = Told(frozenset(self._paths), self._is_all)
        self._paths, self._is_all = set(), True
        self._is_any.clear()
        return told

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            self._is_any.set()
            place = 0
            while place < len(data):
                number, mask, _, length = _HEAD.unpack_from(data, place)
                name = data[place + _HEAD.size : place + _HEAD.size + length].rstrip(b"\0")
                place += _HEAD.size + length
                self._note(number, mask, os.fsdecode(name))

    def _note(self, number: int, mask: int, name: str) -> None:
        folder = self._folders.get(number)
        if mask & _IGNORED:
            self._drop(number)
        if mask & _OVERFLOW or len(self._paths) >= _MAX_PATHS:
            self._is_all = False
        elif folder is not None:
            self._paths.add(os.path.join(folder, name) if not mask & _OF_THE_FOLDER else folder)

    def _drop(self, number: int) -> int:
        folder = self._folders.pop(number, None)
        if folder is not None:
            del self._numbers[folder]
        return number


@cache
def _functions() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.inotify_init1.argtypes = [ctypes.c_int]
        library.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
        library.inotify_rm_watch.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return library
