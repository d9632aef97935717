"""Run `waypoint explain` and `waypoint replay` after the command line was parsed.

Results go to standard output, messages to standard error.
"""

import json
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console

from l4.command_line import Address
from l4.config.settings import Settings
from waypoint.ask.explain import explain, snapshot_for
from waypoint.ask.load import Loaded, load
from waypoint.ask.page import as_json
from waypoint.ask.question import InvalidQuestion, Question
from waypoint.ask.remote import CannotAsk, ask
from waypoint.ask.replay import replay
from waypoint.ask.replayed import tell_replay, values
from waypoint.ask.telling import tell
from waypoint.config.pipeline import Gateway


def run_explain(
    paths: Iterable[Path],
    gateway: Gateway | None,
    admin: Address | None,
    question: Question,
    settings: Settings,
    output: str,
) -> None:
    """Explain with files, or ask the waypoint at `admin`. Raises click.UsageError; exits if the waypoint cannot be
    asked."""
    try:
        if admin is not None:
            explanation = ask(admin, question)
        else:
            loaded = loaded_from(paths, gateway, settings, makes_up_pods=True)
            explanation = explain(snapshot_for(loaded, question), question, settings, time.time())
            explanation = loaded.stand_ins.told(explanation) if loaded.stand_ins is not None else explanation
    except InvalidQuestion as error:
        raise click.UsageError(str(error)) from None
    except CannotAsk as error:
        sys.exit(f"waypoint: {error}")
    if output == "json":
        click.echo(as_json(explanation), nl=False)
    else:
        tell(explanation, Console(highlight=False))


def run_replay(
    recordings: Iterable[BinaryIO],
    paths: Iterable[Path],
    against: Collection[Path],
    gateway: Gateway | None,
    settings: Settings,
    output: str,
    *,
    fails_on_change: bool,
) -> int:
    """Replay recordings. Returns the exit status. Raises click.UsageError."""
    candidate = loaded_from(paths, gateway, settings)
    replayed = replay(recordings, candidate, loaded_from(against, gateway, settings) if against else None)
    if output == "json":
        click.echo(json.dumps(values(replayed), indent=2, ensure_ascii=False))
    else:
        tell_replay(replayed, Console(highlight=False))
    return int(not replayed.heads or (fails_on_change and bool(replayed.changed)))


def loaded_from(
    paths: Iterable[Path], gateway: Gateway | None, settings: Settings, *, makes_up_pods: bool = False
) -> Loaded:
    """Load files, with a message if they have problems. Raises click.UsageError."""
    loaded = load(paths, gateway, settings, makes_up_pods=makes_up_pods)
    if gateway is not None and not loaded.snapshots[gateway].has_gateway:
        names = "/".join(gateway)
        raise click.BadParameter(f"there is no Gateway {names} in these files", param_hint="'--gateway'")
    if loaded.problems:
        count = "1 problem" if len(loaded.problems) == 1 else f"{len(loaded.problems)} problems"
        click.echo(f"{count} in these files; run `waypoint analyze` for details", err=True)
    return loaded
