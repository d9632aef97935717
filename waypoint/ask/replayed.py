"""Format the result of a replay as text or plain values."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from waypoint.ask.effect import Words
from waypoint.ask.replay import Group, Replay

Line = tuple[str, str]
"""A line and its style."""


def tell_replay(replay: Replay, console: Console) -> None:
    for line, style in _lines(replay):
        console.print(Text(line, style=style), soft_wrap=True)


def values(replay: Replay) -> dict[str, object]:
    return {
        "heads": replay.heads,
        "same": replay.same,
        "renamed": replay.renamed,
        "changed": replay.changed,
        "undecided": replay.undecided,
        "unreadable": replay.unreadable,
        "unreadableLines": replay.unreadable_lines,
        "groups": [_group_values(group) for group in _sorted(replay)],
        "changedInOtherGroups": replay.left_out,
    }


def _group_values(group: Group) -> dict[str, object]:
    return {
        "count": group.count,
        "before": _words_values(group.before),
        "after": _words_values(group.after),
        "example": group.example,
        "place": group.place,
    }


def _words_values(words: Words) -> dict[str, object]:
    return {"rule": words.rule, "where": words.where, "does": list(words.does)}


def _sorted(replay: Replay) -> list[Group]:
    """Return the groups, largest first."""
    return sorted(replay.groups.values(), key=lambda group: -group.count)


def _lines(replay: Replay) -> Iterator[Line]:
    changes = "nothing would change" if not replay.changed else f"{replay.changed:,} would change"
    yield f"{_heads(replay.heads)} replayed: {changes}, {replay.same + replay.renamed:,} unchanged", "bold"
    if replay.renamed:
        yield f"{replay.renamed:,} of them would match another rule with the same effect", ""
    for name, count in sorted(replay.undecided.items()):
        yield f"{_heads(count)} cannot be compared: a rule matches on {name}, which the recording redacts", "yellow"
    if replay.unreadable:
        lines = "1 line" if replay.unreadable == 1 else f"{replay.unreadable:,} lines"
        yield f"{lines} cannot be parsed:", "yellow"
        yield from ((f"  {line}", "yellow") for line in replay.unreadable_lines)
    for group in _sorted(replay):
        yield "", ""
        yield from _group(group)
    if replay.left_out:
        yield f"and {_heads(replay.left_out)} with other changes", "dim"


def _group(group: Group) -> Iterator[Line]:
    yield f"{_heads(group.count)}, such as {group.example}", ""
    yield f"  - {group.before}", "red"
    yield f"  + {group.after}", "green"
    before, after = group.before.does, group.after.does
    yield from ((f"  -   {words}", "red") for words in before if words not in after)
    yield from ((f"  +   {words}", "green") for words in after if words not in before)
    if group.before == group.after:
        yield "  in details, such as retry delays or a session's scope", ""
    yield f"  {group.place}", "dim"


def _heads(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"
