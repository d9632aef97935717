"""Command-line parts of all commands that ask running programs: what to ask, and the form of the answer.

Nothing heavy is imported before a command runs, so that `--help` is fast.
"""

import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from l4.asking.output import FORMATS, Column, Row, table, written
from l4.command_line import EXISTING, Address, AddressType

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def target(program: str) -> Callable[[F], Callable[..., Any]]:
    """Add the argument TARGET and its options to a command, which gets a `Target` as its first argument."""
    owner = "ds/ztunnel" if program == "ztunnel" else "deploy/waypoint"

    def add(command: F) -> Callable[..., Any]:
        @wraps(command)
        def named(
            target: str,
            admin: Address | None,
            namespace: str,
            kubeconfig: Path | None,
            context: str,
            node: str = "",
            **others: Any,
        ) -> object:
            from l4.asking.reach import Target

            if admin is not None and (target or namespace or node):
                raise click.UsageError("--admin names one program: leave out TARGET, -n and --node")
            return command(Target(program, target, admin, namespace, kubeconfig, context, node), **others)

        found: Callable[..., Any] = named
        if program == "ztunnel":
            found = click.option("--node", default="", help="Only the pods of this node of the cluster.")(found)
        for option in (
            click.option("--context", default="", help="Context of the kubeconfig; the current one by default."),
            click.option("--kubeconfig", type=EXISTING, help="Kubeconfig of the cluster."),
            click.option(
                "-n",
                "--namespace",
                default="",
                metavar="NAMESPACE",
                help=f"TARGET is in this namespace of a cluster: {owner}.",
            ),
            click.option("--admin", type=AddressType(), help="Ask the program with this administration port."),
            click.argument("target", metavar="[TARGET]", default="", shell_complete=complete_proxies(program)),
        ):
            found = option(found)
        return found

    return add


output = click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
where = click.option(
    "-w",
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only rows with this value in a column of -o json; * and ? are wildcards; repeatable.",
)


def complete_proxies(program: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the proxies of the running laptop mesh."""
        import os

        from l4.asking import laptop

        found = [it.name for it in laptop.proxies(laptop.folder(os.environ)) if it.program == program]
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. Exits with 1 and a sentence if a program cannot be asked, with 130 on Ctrl-C."""
    import asyncio

    from l4.asking.admin import CannotAsk

    try:
        return asyncio.run(coroutine)
    except CannotAsk as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # such as `| head`
        sys.stdout = None
        sys.exit(0)


def show(
    target: Any,
    ask: Callable[[Any], Awaitable[Sequence[Row]]],
    columns: Sequence[Column],
    output: str,
    conditions: Sequence[str] = (),
) -> None:
    """Print the rows that `ask` returns for each program of the target. Several programs get a column of their own."""
    print_rows(run(_rows(target, ask)), columns, output, conditions)


def print_rows(rows: Sequence[Row], columns: Sequence[Column], output: str, conditions: Sequence[str] = ()) -> None:
    rows = _selected(rows, conditions)
    if rows and "program" in rows[0]:
        columns = [("PROGRAM", "program"), *columns]
    click.echo(table(rows, columns) if output == "table" else written(rows, output))


async def _rows(target: Any, ask: Callable[[Any], Awaitable[Sequence[Row]]]) -> list[Row]:
    import asyncio

    from l4.asking.reach import reached

    async with reached(target) as admins:
        found = await asyncio.gather(*map(ask, admins))
    if len(admins) == 1:
        return list(found[0])
    return [{"program": admin.name, **row} for admin, rows in zip(admins, found, strict=True) for row in rows]


def _selected(rows: Sequence[Row], conditions: Sequence[str]) -> list[Row]:
    """Raises click.UsageError."""
    from fnmatch import fnmatchcase

    found = list(rows)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise click.UsageError(f"--where {condition!r} is not of the form COLUMN=VALUE")
        if rows and name not in rows[0]:
            raise click.UsageError(f"--where: there is no column {name!r}; there are {', '.join(rows[0])}")
        found = [it for it in found if fnmatchcase(str(it[name]), value)]
    return found


def count_text(counts: Mapping[str, int]) -> str:
    """Return counts by name in one cell."""
    return " ".join(f"{name}={count}" for name, count in counts.items())
