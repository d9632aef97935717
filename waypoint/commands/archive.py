"""A bug report: files in one tar.gz, without secrets, of bounded size.

What cannot be collected is not an error of the report, but a line of its list of failures: a report is most needed when
something does not answer.
"""

import io
import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waypoint.commands.redacting import redacted, redacted_text

MAX_FILE_BYTES = 32 << 20
_FOLDER = "bug-report"


def folder_of(program: str, name: str) -> str:
    """Return the folder of one running program. `name` may be of a pod, an address or a proxy of the laptop mesh."""
    safe = "".join(it if it.isalnum() or it in "-._" else "." for it in name)
    return f"programs/{program}/{safe}"


class Archive:
    """Collects files. `failures` are sentences about what is missing."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._files: dict[str, bytes] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def add_values(self, name: str, value: Any) -> None:
        """Add plain values as JSON."""
        self._add(name, json.dumps(redacted(value), indent=2, ensure_ascii=False, default=str).encode())

    def add_text(self, name: str, text: str) -> None:
        """Add text. If it is too long, its end stays."""
        self._add(name, redacted_text(text).encode(errors="replace"))

    @contextmanager
    def trying(self, what: str, *errors: type[Exception]) -> Iterator[None]:
        """Note a failure instead of raising it."""
        try:
            yield
        except errors as error:
            self.failures.append(f"{what}: {error}")

    def write(self, path: Path) -> None:
        """Write the archive, readable for its user only. Raises OSError."""
        self._add("failures.txt", "".join(f"{it}\n" for it in self.failures).encode())
        now = time.time()
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        with tarfile.open(path, "w:gz") as archive:
            for name in self.names:
                entry = tarfile.TarInfo(f"{_FOLDER}/{name}")
                entry.size, entry.mtime, entry.mode = len(self._files[name]), now, 0o600
                archive.addfile(entry, io.BytesIO(self._files[name]))

    def _add(self, name: str, content: bytes) -> None:
        if len(content) > MAX_FILE_BYTES:
            self.failures.append(f"{name}: only the last {MAX_FILE_BYTES} of {len(content)} bytes are kept")
            content = content[-MAX_FILE_BYTES:]
        self._files[name] = content
