"""Run `waypoint analyze` and `waypoint compile`: objects in, text out. Results go to standard output, messages to
standard error.

Exit status: 0 no problem reaches the threshold, 1 some problem does or the API server could not be read, 2 wrong usage.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import yaml

from l4.config.codes import Level
from l4.config.settings import Settings
from l4.config.source import CannotRead
from l4.kubernetes.options import KubernetesOptions
from waypoint.ask import listing
from waypoint.ask.analyze import Analysis, analyze, is_at_least
from waypoint.ask.lines import Lines
from waypoint.ask.load import STDIN, Loaded, load
from waypoint.ask.suppress import Suppression
from waypoint.config.dump import dump
from waypoint.config.pipeline import Gateway
from waypoint.config.snapshot import Snapshot

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}
_DASH = Path("-")


@dataclass(frozen=True, slots=True)
class Question:
    """The files or the API server, and the waypoint to look at; None means all."""

    source: tuple[Path, ...] | KubernetesOptions
    gateway: Gateway | None
    settings: Settings

    def read(self) -> tuple[Loaded, bytes | None]:
        """Load the objects. Also returns the text of standard input if it is among the files. Exits if the API server
        cannot be read."""
        source, stdin = self.source, None
        if not isinstance(source, KubernetesOptions):
            stdin = sys.stdin.buffer.read() if _DASH in source else None
            source = tuple(path for path in source if path != _DASH)
        try:
            return load(source, self.gateway, self.settings, stdin), stdin
        except CannotRead as error:
            sys.exit(f"waypoint: {error}")


def run_analyze(
    question: Question, output: str, suppressions: Sequence[str], failure_threshold: Level, output_threshold: Level
) -> int:
    """Analyze. Returns the exit status."""
    try:
        unwanted = [Suppression.parse(text) for text in suppressions]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--suppress'") from None
    loaded, stdin = question.read()
    if question.gateway is not None:
        _snapshot_of(loaded, question.gateway)
    analysis = analyze(loaded, unwanted, stdin)
    shown = [problem for problem in analysis.problems if is_at_least(problem, output_threshold)]
    match output:
        case "json":
            click.echo(listing.as_json(shown))
        case "yaml":
            click.echo(listing.as_yaml(shown))
        case _:
            for line in listing.log_lines(shown, _paint):
                click.echo(line, color=_color(os.environ))
    click.echo(listing.summary(analysis), err=True)
    click.echo(_advice(analysis, loaded), err=True)
    return int(analysis.reaches(failure_threshold))


def compiled(question: Question) -> dict[str, Any]:
    """Return the configuration of one waypoint, as its `/config_dump` would. Raises click.UsageError."""
    loaded, stdin = question.read()
    if question.gateway is None and len(loaded.snapshots) != 1:
        names = ", ".join("/".join(it) for it in loaded.snapshots) or "none"
        raise click.UsageError(f"use --gateway to select a waypoint; in use are: {names}")
    snapshot = _snapshot_of(loaded, question.gateway or next(iter(loaded.snapshots)))
    located = Lines({} if stdin is None else {STDIN: stdin}).located(snapshot.problems)
    return dump(replace(snapshot, problems=tuple(sorted(located))))


def print_compiled(shown: object, output: str) -> None:
    """Print it as `json` or as `yaml`."""
    if output == "json":
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        click.echo(yaml.dump(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=160), nl=False)


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Write shared values in full instead of using anchors."""
        return True


def _snapshot_of(loaded: Loaded, gateway: Gateway) -> Snapshot:
    snapshot = loaded.snapshots[gateway]
    if not snapshot.has_gateway:
        raise click.BadParameter(f"there is no Gateway {'/'.join(gateway)} {loaded.place}", param_hint="'--gateway'")
    return snapshot


def _paint(text: str, level: Level) -> str:
    return click.style(text, fg=_COLOURS[level], bold=level is Level.ERROR)


def _color(environment: Mapping[str, str]) -> bool | None:
    """Return whether to use colors. None lets click decide, which colors on terminals only."""
    return False if environment.get("NO_COLOR") else None


def _advice(analysis: Analysis, loaded: Loaded) -> str:
    if analysis.problems:
        return "`waypoint analyze --list-codes` explains the codes; --suppress hides intended findings."
    if loaded.snapshots:
        gateway = "/".join(next(iter(loaded.snapshots)))
        return f"`waypoint compile … --gateway {gateway}` shows what that waypoint would run."
    return "No waypoint is in use: label a namespace istio.io/use-waypoint with the name of its Gateway."
