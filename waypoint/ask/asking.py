"""Run `waypoint explain` and `waypoint replay` after the command line was parsed.

Results go to standard output, messages to standard error.
"""

import asyncio
import json
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console

from l4.asking.admin import CannotAsk
from l4.asking.output import written
from l4.asking.reach import Target
from l4.config.settings import Settings
from l4.config.source import CannotRead
from waypoint.ask.explain import explain, snapshot_for
from waypoint.ask.load import Loaded, Source, load
from waypoint.ask.page import as_json
from waypoint.ask.question import InvalidQuestion, Question
from waypoint.ask.remote import ask_target
from waypoint.ask.replay import replay
from waypoint.ask.replayed import tell_replay, values
from waypoint.ask.telling import tell
from waypoint.config.pipeline import Gateway


def run_explain(
    source: Source | Target,
    gateway: Gateway | None,
    question: Question,
    settings: Settings,
    output: str,
) -> None:
    """Explain with objects, or ask a running waypoint. Raises click.UsageError; exits if the waypoint or the API server
    cannot be asked."""
    try:
        if isinstance(source, Target):
            explanation = asyncio.run(ask_target(source, question))
        else:
            loaded = loaded_from(source, gateway, settings, makes_up_pods=True)
            explanation = explain(snapshot_for(loaded, question), question, settings, time.time())
            explanation = loaded.stand_ins.told(explanation) if loaded.stand_ins is not None else explanation
    except InvalidQuestion as error:
        raise click.UsageError(str(error)) from None
    except CannotAsk as error:
        sys.exit(f"waypoint: {error}")
    if output == "json":
        click.echo(as_json(explanation), nl=False)
    elif output == "yaml":
        click.echo(written(json.loads(as_json(explanation)), output))
    else:
        tell(explanation, Console(highlight=False))


def run_replay(
    recordings: Iterable[BinaryIO],
    source: Source,
    against: Collection[Path],
    gateway: Gateway | None,
    settings: Settings,
    output: str,
    *,
    fails_on_change: bool,
) -> int:
    """Replay recordings. Returns the exit status. Raises click.UsageError."""
    candidate = loaded_from(source, gateway, settings)
    replayed = replay(recordings, candidate, loaded_from(against, gateway, settings) if against else None)
    if output != "table":
        click.echo(written(values(replayed), output))
    else:
        tell_replay(replayed, Console(highlight=False))
    if not replayed.heads:
        click.echo("the recording has no request; `waypoint run --record FILE` writes one", err=True)
    return int(not replayed.heads or (fails_on_change and bool(replayed.changed)))


def loaded_from(source: Source, gateway: Gateway | None, settings: Settings, *, makes_up_pods: bool = False) -> Loaded:
    """Load the objects, with a message if they have problems. Raises click.UsageError; exits if the API server cannot
    be read."""
    try:
        loaded = load(source, gateway, settings, makes_up_pods=makes_up_pods)
    except CannotRead as error:
        sys.exit(f"waypoint: {error}")
    if gateway is not None and not loaded.snapshots[gateway].has_gateway:
        names = "/".join(gateway)
        raise click.BadParameter(f"there is no Gateway {names} {loaded.place}", param_hint="'--gateway'")
    if loaded.problems:
        count = "1 problem" if len(loaded.problems) == 1 else f"{len(loaded.problems)} problems"
        click.echo(f"{count} {loaded.place}; run `waypoint analyze` for details", err=True)
    return loaded
