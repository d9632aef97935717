"""Replay recorded request heads against a candidate configuration, and group the differences.

A recording is read once, line by line. Only a limited number of groups is kept, with one example each. The candidate is
compared with the recording (route name, and destination or status), or with another configuration, which reveals every
difference including shares, edits and limits. If a rule matches on a value that the recording redacted, the head is
counted as undecided.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import msgspec

from policies.attributes import ClusterName, Identity, Peer, RequestHead
from policies.query import parse_query
from policies.rewrite import split_port
from policies.route import Table
from waypoint.ask.effect import Effect, Words, effect
from waypoint.ask.load import Loaded
from waypoint.config.snapshot import Destination
from waypoint.config.words import cluster_name, text
from waypoint.telemetry.recorder import MAX_LINE_BYTES, RecordedHead
from waypoint.telemetry.redaction import MARK

MAX_GROUPS = 1000
MAX_UNREADABLE = 10
"""Maximum number of invalid lines to report."""


@dataclass(slots=True)
class Group:
    """Requests with the same change. `example` shows the first one."""

    before: Words
    after: Words
    count: int
    place: str
    example: str


@dataclass(slots=True)
class Replay:
    """The result of a replay.

    `renamed` requests get the same effect from another rule. `undecided` counts requests that cannot be compared, by
    reason.
    """

    same: int = 0
    renamed: int = 0
    changed: int = 0
    groups: dict[tuple[Words, Words], Group] = field(default_factory=dict)
    left_out: int = 0
    undecided: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    unreadable_lines: list[str] = field(default_factory=list)

    @property
    def heads(self) -> int:
        return self.same + self.renamed + self.changed + sum(self.undecided.values())


def replay(recordings: Iterable[BinaryIO], candidate: Loaded, against: Loaded | None) -> Replay:
    """Replay recordings. Without `against`, compare with the recorded results."""
    found = Replay()
    after = _Candidate(candidate)
    before = _Candidate(against) if against is not None else None
    for place, line in _lines(recordings):
        try:
            recorded = msgspec.json.decode(line, type=RecordedHead)
            peer, head = _peer(recorded), recorded.head
        except (msgspec.DecodeError, ValueError) as error:
            found.unreadable += 1
            if len(found.unreadable_lines) < MAX_UNREADABLE:
                found.unreadable_lines.append(f"{place}: {error}")
            continue
        missing = after.missing(recorded, peer, head) or (before.missing(recorded, peer, head) if before else None)
        if missing:
            found.undecided[missing] = found.undecided.get(missing, 0) + 1
            continue
        now = after.effect(recorded, peer, head)
        _compare(found, recorded, place, before.effect(recorded, peer, head) if before else None, now)
    return found


class _Candidate:
    """The waypoints of one configuration."""

    def __init__(self, loaded: Loaded) -> None:
        self._snapshots = tuple(loaded.snapshots.values())
        self._asked: dict[int, frozenset[bytes]] = {}

    def effect(self, recorded: RecordedHead, peer: Peer, head: RequestHead) -> Effect:
        return effect(self._destination(recorded), peer, head, recorded.time)

    def missing(self, recorded: RecordedHead, peer: Peer, head: RequestHead) -> str | None:
        """Return the name of a redacted value that a rule for this request matches on, or None."""
        redacted = {name for name, value in head.headers if value == MARK}
        redacted |= {name for name, value in parse_query(head.query).items() if value == MARK}
        destination = self._destination(recorded) if redacted else None
        if destination is None:
            return None
        table = destination.routes_for(peer)
        asked = redacted & self._names(table)
        for route in table.routes if asked else ():
            if route.match.path.accepts(head.path):
                for it in (*route.match.headers, *route.match.query):
                    if it.name in asked:
                        return text(it.name)
        return None

    def _names(self, table: Table) -> frozenset[bytes]:
        """Return the names of headers and parameters that the table's rules match on."""
        names = self._asked.get(id(table))
        if names is None:
            matches = [route.match for route in table.routes]
            names = frozenset(it.name for match in matches for it in (*match.headers, *match.query))
            self._asked[id(table)] = names
        return names

    def _destination(self, recorded: RecordedHead) -> Destination | None:
        """Find the destination by the tunnel's address, else by service name, since files may lack addresses."""
        host, port = split_port(recorded.destination.encode())
        number = int(port or 0)
        for name in (host.decode().strip("[]"), recorded.service):
            for snapshot in self._snapshots:
                if (found := snapshot.destination((name, number))) is not None:
                    return found
        return None


def _compare(found: Replay, recorded: RecordedHead, place: str, before: Effect | None, after: Effect) -> None:
    if before is not None:
        old, new, is_same = before.words, after.words, before.exact == after.exact
    else:
        old, new = _recorded_words(recorded, after), replace(after.words, does=())
        end = ClusterName(recorded.cluster) if recorded.cluster else None, recorded.status
        is_same = recorded.route == after.route and end in after.ends
    if not is_same:
        found.changed += 1
        _group(found, recorded, place, old, new)
    elif old.rule != new.rule:
        found.renamed += 1
    else:
        found.same += 1


def _recorded_words(recorded: RecordedHead, after: Effect) -> Words:
    """Return the recorded result in words, without edits and limits.

    The rule is named by its object if the recorded name shows that it is the same.
    """
    where = cluster_name(ClusterName(recorded.cluster)) if recorded.cluster else str(recorded.status)
    rule = after.words.rule if recorded.route == after.route else recorded.route
    return Words(_harmless(rule), _harmless(where))


def _group(found: Replay, recorded: RecordedHead, place: str, before: Words, after: Words) -> None:
    group = found.groups.get((before, after))
    if group is not None:
        group.count += 1
    elif len(found.groups) >= MAX_GROUPS:
        found.left_out += 1
    else:
        client = recorded.peer.partition("/ns/")[2].replace("/sa/", "/") or "an unknown client"
        asked = f"{recorded.method} {recorded.authority}{recorded.target}"
        example = _harmless(f"{asked} from {client} to {recorded.destination}")
        found.groups[before, after] = Group(before, after, 1, place, example)


def _harmless(recorded: str) -> str:
    """Escape text from a file for a terminal."""
    return text(recorded.encode("latin-1", "replace"))


def _peer(recorded: RecordedHead) -> Peer:
    """Raises ValueError."""
    return Peer(Identity.parse(recorded.peer) if recorded.peer else None, "0.0.0.0", 0)  # noqa: S104


def _lines(recordings: Iterable[BinaryIO]) -> Iterator[tuple[str, bytes]]:
    """Yield each line with its position; of an overlong line, only the beginning."""
    for file in recordings:
        name, number = getattr(file, "name", "stdin"), 0
        while line := file.readline(2 * MAX_LINE_BYTES):
            number += 1
            yield f"{name}:{number}", line
            while line and not line.endswith(b"\n"):
                line = file.readline(2 * MAX_LINE_BYTES)
