"""Follow the live streams of one or several waypoints, and print them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import nullcontext

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from l4.asking.admin import Admin, CannotAsk
from l4.asking.output import Column, table, written
from l4.asking.reach import Target, reached
from waypoint.commands.rounds import Event, Round, Rounds
from waypoint.telemetry.rates import DEFAULT_GROUPING, merge

Query = Sequence[tuple[str, str]]

_MAX_WAITING = 1000
_PROGRAM = "program"


async def follow_requests(target: Target, query: Query, output: str, count: int | None) -> None:
    """Print requests until `count` were printed or the streams end. Raises CannotAsk."""
    left = count
    async with reached(target) as admins:
        async for admin, event in _streams(admins, "/tap", query):
            more = {"program": admin.name} if len(admins) > 1 else {}
            if event["type"] == "open" and sys.stderr.isatty():
                click.echo(f"waiting for requests of {admin.name}; Ctrl-C ends", err=True)
            if event["type"] in ("open", "alive", "ended"):
                continue
            if event["type"] == "silent":
                _tell_silent(admin, event)
                continue
            if event["type"] == "dropped":
                click.echo(f"{event['count']} requests were not shown; a filter would leave fewer", err=True)
                continue
            _print({**more, **event}, output)
            if left is not None and (left := left - 1) == 0:
                return


async def follow_rates(target: Target, query: Query, by: Sequence[str], output: str, count: int | None) -> None:
    """Print rates until `count` intervals were printed or the streams end. Raises CannotAsk.

    Rates of several waypoints are added up, unless they are grouped by `program`.
    """
    asked = DEFAULT_GROUPING if by == [_PROGRAM] else ",".join(it for it in by if it != _PROGRAM)
    async with reached(target) as admins:
        rounds = Rounds(it.name for it in admins)
        console = Console(highlight=False)
        is_live = output == "table" and console.is_terminal
        shown = 0
        screen = (
            Live(Text("waiting for the first interval"), console=console, screen=True) if is_live else nullcontext()
        )
        with screen as live:
            async for admin, event in _streams(admins, "/top", [("by", asked), *query]):
                over: Iterable[Round] = ()
                match event["type"]:
                    case "silent" if live is None:
                        _tell_silent(admin, event)
                    case "rates":
                        over = rounds.take(admin.name, event)
                    case "ended":
                        over = rounds.leave(admin.name)
                for its in over:
                    rows, missing = _merged(its, by), ", ".join(sorted(rounds.followed - its.keys()))
                    if live is not None:
                        live.update(Text(_screen(rows, missing, by), no_wrap=True), refresh=True)
                    else:
                        _print_rates(its, rows, missing, by, output)
                    shown += 1
                    if shown == count:
                        return


def _print_rates(its: Round, rows: Sequence[Event], missing: str, by: Sequence[str], output: str) -> None:
    if missing:
        click.echo(f"{missing} did not tell rates in time, and is left out of this interval", err=True)
    if output == "table":
        click.echo(f"{table(rows, _columns(by), empty='no requests')}\n")
        return
    seconds = max(it["seconds"] for it in its.values())
    _print_plain({"type": "rates", "seconds": seconds, "programs": sorted(its), "rows": rows}, output)


def _merged(its: Mapping[str, Event], by: Sequence[str]) -> list[dict[str, object]]:
    """Raises CannotAsk."""
    try:
        rows = merge(({_PROGRAM: name, **row} for name, event in its.items() for row in event["rows"]), by)
    except KeyError as error:
        raise CannotAsk(f"{', '.join(its)} sent rates without {error}; it may be another version") from None
    for row in rows:
        del row["durations"]
    return rows


async def _streams(admins: Sequence[Admin], path: str, query: Query) -> AsyncIterator[tuple[Admin, Event]]:
    """Yield the events of all streams, and one of type `ended` for each that ends, until all have ended.

    A stream of several that cannot be followed is told. Raises CannotAsk if it was the last.
    """
    waiting: asyncio.Queue[tuple[Admin, Event | CannotAsk]] = asyncio.Queue(_MAX_WAITING)

    async def read(admin: Admin) -> None:
        try:
            async for event in admin.lines(path, query):
                await waiting.put((admin, event))
            await waiting.put((admin, {"type": "ended"}))
        except CannotAsk as error:
            await waiting.put((admin, error))

    tasks = [asyncio.ensure_future(read(it)) for it in admins]
    try:
        left = len(admins)
        while left:
            admin, event = await waiting.get()
            if isinstance(event, CannotAsk) or event["type"] == "ended":
                left -= 1
                if isinstance(event, CannotAsk):
                    if not left:
                        raise event
                    click.echo(f"{event}; going on without it", err=True)
                else:
                    click.echo(f"{admin.name} has ended the stream", err=True)
                event = {"type": "ended"}
            yield admin, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_silent(admin: Admin, event: Event) -> None:
    if event["workers"]:
        click.echo(f"{admin.name}: requests of {', '.join(event['workers'])} are missing: it does not answer", err=True)
    else:
        click.echo(f"{admin.name}: all workers answer again", err=True)


def _print(event: Event, output: str) -> None:
    if output == "table":
        click.echo(request_line(event))
    else:
        _print_plain(event, output)


def _print_plain(event: Event, output: str) -> None:
    """One line of JSON, or one YAML document."""
    if output == "json":
        click.echo(json.dumps(event, ensure_ascii=False))
    else:
        click.echo("---\n" + written(dict(event), output))


def request_line(event: Event) -> str:
    """Return one request in one line."""
    source, destination = event["source"], event["destination"]
    service = destination["service"].removesuffix(".svc.cluster.local")
    to = f"{service}:{destination['port']}"
    if destination["endpoint"]:
        to += f" ({destination['workload']})"
    words = [
        event.get("program", ""),
        event["time"][11:23],
        str(event["status"] or "-"),
        f"{event['duration_ms']:.0f}ms",
        f"{source['namespace']}/{source['workload']}",
        "→",
        to,
        event["method"] or event["protocol"],
        event["path"],
        f"route={event['route']}" if event["route"] else "",
        f"flags={','.join(event['flags'])}" if event["flags"] else "",
        event["detail"] if event["detail"] != "via_upstream" else "",
        *(f"{name}: {value}" for name, value in event["headers"]),
    ]
    line = " ".join(word for word in words if word)
    return "".join(it if it.isprintable() else f"\\x{ord(it):02x}" for it in line)


def _columns(by: Sequence[str]) -> list[Column]:
    return [
        *((name.upper(), name) for name in by),
        ("RPS", lambda it: f"{it['per_second']:.1f}"),
        ("ERRORS", lambda it: f"{100 * it['errors'] / it['requests']:.1f} %"),
        ("P50", lambda it: _milliseconds(it["p50_ms"])),
        ("P90", lambda it: _milliseconds(it["p90_ms"])),
        ("P99", lambda it: _milliseconds(it["p99_ms"])),
        ("STATUSES", lambda it: " ".join(f"{name}={count}" for name, count in it["statuses"].items())),
    ]


def _milliseconds(number: float) -> str:
    return f"{number / 1000:.2f} s" if number >= 1000 else f"{number:.0f} ms" if number >= 10 else f"{number:.1f} ms"


def _screen(rows: Sequence[Event], missing: str, by: Sequence[str]) -> str:
    requests, errors = sum(it["per_second"] for it in rows), sum(it["errors"] for it in rows)
    total = f"{requests:.1f} requests/s, {errors} errors in the last interval; Ctrl-C ends"
    without = f"\nwithout {missing}" if missing else ""
    return f"{total}{without}\n\n{table(rows, _columns(by), empty='no requests')}"
