"""Subcommands that ask a running ztunnel."""

from typing import TYPE_CHECKING, Any

import click

from l4.asking.common import log_level_of, status_of
from l4.asking.completion import completion_of
from l4.asking.options import output, show, target, where
from l4.ztunnel.tables import TABLES

if TYPE_CHECKING:
    from l4.asking.admin import Admin
    from l4.asking.reach import Target


def _table(name: str) -> click.Command:
    rows, columns, text = TABLES[name]

    @click.command(name, help=text)
    @target("ztunnel")
    @where
    @output
    def command(target: "Target", where: tuple[str, ...], output: str) -> None:
        async def ask(admin: "Admin") -> list[dict[str, Any]]:
            from l4.asking.admin import CannotAsk

            dumped = await admin.json("/config_dump")
            try:
                return rows(dumped)
            except (KeyError, TypeError):
                raise CannotAsk(
                    f"{admin.name} is no ztunnel: check that it is the administration port of one"
                ) from None

        show(target, ask, columns, output, where)

    return command


COMMANDS = (status_of("ztunnel"), *map(_table, TABLES), log_level_of("ztunnel"), completion_of("ztunnel"))
