"""Commands that both programs have: `status` and `log-level`."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from l4.asking.options import output, run, target
from l4.asking.output import written
from l4.asking.status import statuses_text

if TYPE_CHECKING:
    from l4.asking.reach import Target

_LEVELS = ("debug", "info", "warning", "error", "critical")


def status_of(program: str) -> click.Command:
    @click.command("status")
    @target(program)
    @output
    def status(target: "Target", output: str) -> None:
        """Show whether a program is ready, what is wrong, and what it is and takes.

        Exit status: 0 ready, 1 not ready or no answer, 2 wrong usage.
        """
        found = run(_statuses(target))
        if output == "table":
            click.echo(statuses_text(found))
        else:
            click.echo(written([{"name": name, **it} for name, it in found], output))
        sys.exit(0 if all(it["ready"] for _, it in found) else 1)

    return status


def log_level_of(program: str) -> click.Command:
    @click.command("log-level")
    @click.option("--set", "level", type=click.Choice(_LEVELS), help="The level from now on, until the program ends.")
    @target(program)
    @output
    def log_level(target: "Target", level: str | None, output: str) -> None:
        """Show the log level of a running program, or change it.

        Exit status: 0 done, 1 a program gave no answer, 2 wrong usage.
        """
        post(target, "/logging", {"level": level} if level else {}, output)

    return log_level


def post(target: "Target", path: str, query: Mapping[str, str], output: str) -> None:
    """Send a POST to each program of the target, and print what each says. Exits with 1 if one does not do it."""
    answers = run(_posted(target, path, query))
    if output == "table":
        click.echo("\n".join(f"{name}: {said}" if is_done else f"! {said}" for name, said, is_done in answers))
    else:
        rows = [{"name": name, "done": is_done, "said": said} for name, said, is_done in answers]
        click.echo(written(rows, output))
    if not all(is_done for *_, is_done in answers):
        sys.exit(1)


async def _statuses(target: "Target") -> list[tuple[str, Mapping[str, Any]]]:
    """Return the answers of all programs. One that gives none, beside others, is not ready."""
    import asyncio

    from l4.asking.admin import CannotAsk
    from l4.asking.reach import reached

    async with reached(target) as admins:
        found = await asyncio.gather(*(it.json("/status") for it in admins), return_exceptions=len(admins) > 1)
    statuses: list[tuple[str, Mapping[str, Any]]] = []
    for admin, it in zip(admins, found, strict=True):
        if isinstance(it, CannotAsk):
            statuses.append((admin.name, {"ready": False, "error": str(it)}))
        elif isinstance(it, BaseException):
            raise it
        else:
            statuses.append((admin.name, it))
    return statuses


async def _posted(target: "Target", path: str, query: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """Return the name of each program, what it said, and whether it did what was asked."""
    import asyncio

    from l4.asking.admin import CannotAsk
    from l4.asking.reach import reached

    async with reached(target) as admins:
        found = await asyncio.gather(*(it.post(path, query) for it in admins), return_exceptions=len(admins) > 1)
    answers = []
    for admin, it in zip(admins, found, strict=True):
        if isinstance(it, BaseException) and not isinstance(it, CannotAsk):
            raise it
        answers.append((admin.name, str(it), not isinstance(it, CannotAsk)))
    return answers
