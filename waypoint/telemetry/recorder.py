"""Record a sample of request heads, so that `replay` can decide them again under another configuration.

Recording is off by default. The file has one JSON object a line. Bodies are never recorded. Secrets are removed before
they reach the file: values of headers, cookies and query parameters whose names suggest credentials, or that a setting
names. Paths are recorded as they are, because a secret in a path cannot be recognized. The file is bounded: when it is
full, it becomes `PATH.1` and replaces the previous one.
"""

import logging
from dataclasses import dataclass
from random import random

import msgspec

from l4.config.settings import Section, setting
from l4.telemetry.access_log import AccessLog
from l4.telemetry.line_writer import DroppedLines
from policies.attributes import ClusterName, Peer, RequestHead
from policies.host_port import host_port
from waypoint.telemetry.redaction import redacted_headers, redacted_target

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 << 10
_MAX_LINES = 1000  # that wait for being written


@dataclass(frozen=True, slots=True)
class RecorderSettings(Section):
    title = "Recordings"

    record_one_in: int = setting(1, least=1, most=2**31 - 1)
    """One of this many requests is recorded, by chance, if `--record` is given."""
    record_bytes: int = setting(64 << 20, least=1 << 20, most=2**63 - 1)
    """Size of a recording, bytes. One older recording of this size is kept beside it."""
    record_redacted_names: str = ""
    """Headers and query parameters, separated by commas, whose values are left out of recordings. Those whose names
    sound like credentials always are."""

    @property
    def redacted_names(self) -> frozenset[bytes]:
        names = (name.strip().lower().encode() for name in self.record_redacted_names.split(","))
        return frozenset(name for name in names if name)


class CannotRecord(Exception):
    """The file cannot be written. The message is a sentence."""


class RecordedHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. Bytes are text in latin-1.

    `destination` is the destination of the client's tunnel, `service` the hostname found there. The decision: `route`
    is ROUTE_NAME, the request went to `cluster` or was answered locally with `status`, and `version` is the
    configuration's.
    """

    time: float
    destination: str
    service: str
    peer: str
    method: str
    authority: str
    target: str
    headers: tuple[tuple[str, str], ...]
    version: str
    route: str = ""
    cluster: str = ""
    status: int = 0
    overrides: tuple[tuple[str, str], ...] | None = None

    @property
    def head(self) -> RequestHead:
        """Return the head before the decision, without redacted values."""
        path, question, query = _bytes(self.target).partition(b"?")
        headers = [(_bytes(name), _bytes(value)) for name, value in self.headers]
        asked = None if self.overrides is None else [(_bytes(name), _bytes(value)) for name, value in self.overrides]
        authority, has_query = _bytes(self.authority), bool(question)
        return RequestHead(_bytes(self.method), authority, path, query, headers, has_query, overrides=asked)


@dataclass(frozen=True, slots=True)
class Taken:
    """A head without its secrets, before it is edited."""

    method: str
    authority: str
    target: str
    headers: tuple[tuple[str, str], ...]
    overrides: tuple[tuple[str, str], ...] | None


class Recorder:
    """Writes the recording. Raises CannotRecord if `path` cannot be opened."""

    def __init__(self, path: str, settings: RecorderSettings) -> None:
        self.dropped = 0
        self._one_in = settings.record_one_in
        self._redacted = settings.redacted_names
        try:
            self._file = AccessLog(path, _MAX_LINES, name="recording", max_bytes=settings.record_bytes)
        except OSError as error:
            raise CannotRecord(f"request heads cannot be recorded in {path}: {error.strerror}") from None

    def take(self, head: RequestHead, secrets: frozenset[bytes] = frozenset()) -> Taken | None:
        """Return the head if it is selected at random, else None. Call it before the decision, which edits the head.

        `secrets` are further names of headers and parameters whose values are redacted.
        """
        if self._one_in > 1 and random() * self._one_in >= 1.0:
            return None
        hidden = self._redacted | secrets
        overrides = None if head.overrides is None else redacted_headers(head.overrides, hidden)
        target = _text(redacted_target(head.target, hidden))
        return Taken(
            _text(head.method), _text(head.authority), target, redacted_headers(head.headers, hidden), overrides
        )

    def write(
        self,
        taken: Taken,
        now: float,
        authority: tuple[str, int],
        service: str,
        peer: Peer,
        decided: tuple[str, ClusterName | None, int],
        version: str,
    ) -> None:
        """Write a head. `decided` is the route's name, the cluster, and the status of a local response."""
        host, port = authority
        route, cluster, status = decided
        line = msgspec.json.encode(
            RecordedHead(
                time=round(now, 3),
                destination=host_port(host, port),
                service=service,
                peer=str(peer.identity or ""),
                method=taken.method,
                authority=taken.authority,
                target=taken.target,
                headers=taken.headers,
                version=version,
                route=route,
                cluster=cluster or "",
                status=status,
                overrides=taken.overrides,
            )
        )
        if len(line) > MAX_LINE_BYTES:
            self.dropped += 1
        else:
            self._file.write(line + b"\n")

    @property
    def drops(self) -> DroppedLines:
        return self._file.drops

    def close(self) -> None:
        self._file.close()
        self.dropped += self._file.dropped
        if self.dropped:
            log.warning(
                "%d request heads were not recorded, because they arrived too fast or were too large", self.dropped
            )


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
