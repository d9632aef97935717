"""Report what the proxies log about the configuration on the terminal of `mesh up`.

Each problem is shown once, whichever proxy finds it first, and once more when it is fixed. Each change that goes live
is shown too, except pods that come and go, which the laptop mesh causes itself.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

POLL_SECONDS = 0.2

_LINE = re.compile(r"^\S+ \S+ ([A-Z]+) (?:waypoint\.process\.following|l4\.ztunnel\.app): (.*)$")
_MENDED = "resolved: "
_LIVE = re.compile(r"^configuration \S+ is live: \d+ destinations?; (.*)$")
_LINE_NUMBER = re.compile(r":\d+: ")


class News:
    """`show` receives a sentence, and whether it is good news."""

    def __init__(self, show: Callable[[str, bool], None]) -> None:
        """The proxy that last reported a live change, and the text of its report."""
        self._show = show
        self._read: dict[Path, int] = {}
        self._told: set[str] = set()
        self._live = ("", "")
        """The proxy that last said what became live, and what it said."""

    def already_told(self, sentences: Iterable[str]) -> None:
        """Note problems that were shown before a proxy could find them."""
        self._told |= {_same(sentence) for sentence in sentences}

    async def follow(self, logs: Callable[[], Mapping[str, Path]]) -> None:
        """Show new log lines until cancelled. `logs` maps proxies to files."""
        while True:
            for name, path in logs().items():
                for line in self._new_lines(path):
                    self.take(name, line)
            await asyncio.sleep(POLL_SECONDS)

    def take(self, proxy: str, line: str) -> None:
        """Process a line of a proxy's log."""
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
        """Report a change once, although every waypoint logs it."""
        who, before = self._live
        if changes and (changes != before or who == proxy):
            self._live = proxy, changes
            self._show(f"live: {changes}", True)

    def _new_lines(self, path: Path) -> list[str]:
        """Return complete lines added since the last call."""
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
    """Return the problem without its line number, which changes with each edit above it."""
    return _LINE_NUMBER.sub(": ", problem, count=1)


def _of_people(changes: str) -> str:
    """Return the changes without pods, which the laptop mesh changes itself."""
    parts = []
    for part in changes.split("; "):
        word, _, names = part.partition(": ")
        if kept := [name for name in names.split(", ") if not name.startswith("Pod ")]:
            parts.append(f"{word} {', '.join(kept)}")
    return "; ".join(parts)
