"""Follow the live streams of one or several waypoints, and print them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from l4.asking.admin import Admin, CannotAsk
from l4.asking.output import Column, table, written
from l4.asking.reach import Target, reached

Event = Mapping[str, Any]
Query = Sequence[tuple[str, str]]

_MAX_WAITING = 1000


async def follow_requests(target: Target, query: Query, output: str, count: int | None) -> None:
    """Print requests until `count` were printed or the streams end. Raises CannotAsk."""
    left = count
    async with reached(target) as admins:
        async for admin, event in _streams(admins, "/tap", query):
            more = {"program": admin.name} if len(admins) > 1 else {}
            if event["type"] in ("open", "alive"):
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
    """Print rates until `count` intervals were printed or the streams end. Raises CannotAsk."""
    columns = _columns(by)
    async with reached(target) as admins:
        latest: dict[str, Sequence[Event]] = {}
        if len(admins) > 1:
            columns = [("PROGRAM", "program"), *columns]
        console = Console(highlight=False)
        is_live = output == "table" and console.is_terminal
        shown = 0
        screen = (
            Live(Text("waiting for the first interval"), console=console, screen=True) if is_live else nullcontext()
        )
        with screen as live:
            async for admin, event in _streams(admins, "/top", query):
                if event["type"] == "silent" and live is None:
                    _tell_silent(admin, event)
                if event["type"] != "rates":
                    continue
                latest[admin.name] = [{"program": admin.name, **row} for row in event["rows"]]
                text = table([row for rows in latest.values() for row in rows], columns, empty="no requests")
                if live is not None:
                    live.update(Text(f"{_total(latest)}\n\n{text}", no_wrap=True), refresh=True)
                elif output == "table":
                    click.echo(f"{text}\n")
                else:
                    more = {"program": admin.name} if len(admins) > 1 else {}
                    _print_plain({**more, **event}, output)
                shown += 1
                if count is not None and shown >= count * len(admins):
                    return


async def _streams(admins: Sequence[Admin], path: str, query: Query) -> AsyncIterator[tuple[Admin, Event]]:
    """Yield the events of all streams, until all have ended. Raises CannotAsk when one cannot be followed."""
    waiting: asyncio.Queue[tuple[Admin, Event | CannotAsk | None]] = asyncio.Queue(_MAX_WAITING)

    async def read(admin: Admin) -> None:
        try:
            async for event in admin.lines(path, query):
                await waiting.put((admin, event))
            await waiting.put((admin, None))
        except CannotAsk as error:
            await waiting.put((admin, error))

    tasks = [asyncio.ensure_future(read(it)) for it in admins]
    try:
        ended = 0
        while ended < len(admins):
            admin, event = await waiting.get()
            if isinstance(event, CannotAsk):
                raise event
            if event is None:
                ended += 1
                click.echo(f"{admin.name} has ended the stream", err=True)
            else:
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


def _total(latest: Mapping[str, Sequence[Event]]) -> str:
    rows = [row for rows in latest.values() for row in rows]
    requests, errors = sum(it["per_second"] for it in rows), sum(it["errors"] for it in rows)
    return f"{requests:.1f} requests/s, {errors} errors in the last interval; Ctrl-C ends"
