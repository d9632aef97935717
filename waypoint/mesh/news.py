"""What the proxies' logs say of the configuration, for the terminal of `mesh up`, where its author looks.

Each problem is shown once, whichever proxy finds it first, and once more when it is gone; so is each change that went
live. What only the laptop mesh itself causes, pods that come and go, is left out.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

POLL_SECONDS = 0.2

_LINE = re.compile(r"^\S+ \S+ ([A-Z]+) (?:waypoint\.process\.following|l4\.ztunnel\.app): (.*)$")
_MENDED = "mended or removed: "
_LIVE = re.compile(r"^configuration \S+ is live: \d+ destinations?; (.*)$")
_LINE_NUMBER = re.compile(r":\d+: ")


class News:
    """`show` gets a sentence, and whether it is good news."""

    def __init__(self, show: Callable[[str, bool], None]) -> None:
        self._show = show
        self._read: dict[Path, int] = {}
        self._told: set[str] = set()
        self._live = ("", "")
        """The proxy that last said what became live, and what it said."""

    def already_told(self, sentences: Iterable[str]) -> None:
        """Problems that were shown before a proxy could find them."""
        self._told |= {_same(sentence) for sentence in sentences}

    async def follow(self, logs: Callable[[], Mapping[str, Path]]) -> None:
        """Show what is new in the logs, by the names of their proxies, until cancelled."""
        while True:
            for name, path in logs().items():
                for line in self._new_lines(path):
                    self.take(name, line)
            await asyncio.sleep(POLL_SECONDS)

    def take(self, proxy: str, line: str) -> None:
        """A line of a proxy's log."""
        found = _LINE.match(line)
        if found is None:
            return
        level, text = found.groups()
        if text.startswith(_MENDED):
            key = _same(text.removeprefix(_MENDED))
            if key in self._told:
                self._told.remove(key)
                self._show(text, True)
        elif live := _LIVE.match(text):
            self._tell_live(proxy, _of_people(live[1]))
        elif level != "INFO" and _same(text) not in self._told:
            self._told.add(_same(text))
            self._show(text, False)

    def _tell_live(self, proxy: str, changes: str) -> None:
        """Once, although every waypoint says the same."""
        who, before = self._live
        if changes and (changes != before or who == proxy):
            self._live = proxy, changes
            self._show(f"live: {changes}", True)

    def _new_lines(self, path: Path) -> list[str]:
        """Whole lines that were not there the last time."""
        try:
            with path.open("rb") as log:
                log.seek(self._read.get(path, 0))
                text = log.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        return whole.decode(errors="replace").splitlines()


def _same(problem: str) -> str:
    """The problem without its line, which moves with each edit above it."""
    return _LINE_NUMBER.sub(": ", problem, count=1)


def _of_people(changes: str) -> str:
    """The changes without pods, which the laptop mesh itself makes."""
    parts = []
    for part in changes.split("; "):
        word, _, names = part.partition(": ")
        if kept := [name for name in names.split(", ") if not name.startswith("Pod ")]:
            parts.append(f"{word} {', '.join(kept)}")
    return "; ".join(parts)
