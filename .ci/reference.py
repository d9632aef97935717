"""Writes what comes from the code, for `make docs`: the scripts that complete commands, and pages of docs/:
`settings.md` from the sections that each program lists, `metrics.md` from the metrics that each program lists,
`command-line.md` from both programs' commands."""

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

import click

from l4 import settings as l4_settings
from l4.asking.completion import SHELLS, script_of
from l4.config.settings import Section, fields_of, variables_of
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.samples import MetricsSnapshot
from l4.xds.metrics import METRICS as XDS
from l4.ztunnel.cli import cli as ztunnel_commands
from l4.ztunnel.metrics import ztunnel_metrics
from waypoint.cli import cli as waypoint_commands
from waypoint.controller.discovery_metrics import METRICS as SERVING
from waypoint.metrics import waypoint_metrics
from waypoint.settings import OWN

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMPLETIONS = ROOT / "waypoint" / "commands" / "completions"
SETTINGS = """# Settings

The programs read these environment variables when they start. A bad value, or a name that is almost one of these, ends
the start with a sentence that names the variable. Times are seconds, or carry a unit, such as `500ms` or `5m`. Sizes
are bytes. Flags have variables, too: `--help` names them.

`make docs` writes this page from the sections that `l4/settings.py` and `waypoint/settings.py` list.
"""
METRICS = """# Metrics

Both programs serve metrics on port 15020, in Prometheus' text format or in OpenMetrics. A label without a value is
`unknown`; only `grpc_response_status` is empty without gRPC, as Istio's. Prometheus' own metrics of a process
(`process_…`) come with them.

`make docs` writes this page from the lists in `l4/telemetry/metrics.py`, `l4/xds/metrics.py`, `l4/ztunnel/metrics.py`,
`waypoint/metrics.py` and `waypoint/controller/discovery_metrics.py`.
"""
METRIC_COLUMNS = "| metric | type | meaning | labels |\n|---|---|---|---|\n"
COLUMNS = "| variable | default | meaning |\n|---|---|---|\n"


COMMANDS = """# Command line

Both programs, every command, with what `--help` says. A flag with a variable takes its value from there when it is not
given. What the commands are for: [asking running programs](commands.md), [asking without them](asking.md), [the laptop
mesh](laptop-mesh.md), [the controller](controller.md).

`make docs` writes this page from the commands themselves.
"""
NOT_SHOWN = frozenset({"help", "version"})


def pages() -> dict[str, str]:
    return {"settings.md": settings_page(), "metrics.md": metrics_page(), "command-line.md": commands_page()}


def commands_page() -> str:
    programs = (("waypoint", waypoint_commands), ("ztunnel", ztunnel_commands))
    return COMMANDS + "".join(
        f"\n## {name}\n" + "".join(itertools.starmap(command_section, _commands(name, its))) for name, its in programs
    )


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with all its words, in the order of the alphabet."""
    if isinstance(command, click.Group):
        for one, its in sorted(command.commands.items()):
            yield from _commands(f"{name} {one}", its)
    else:
        yield name, command


def command_section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, **command.context_settings)
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    options = [it for it in command.params if isinstance(it, click.Option) and it.name not in NOT_SHOWN]
    rows = "".join(option_row(it, context) for it in options)
    table = f"\n| option | meaning |\n|---|---|\n{rows}" if rows else ""
    return f"\n### {name}\n\n    {usage}\n\n{_paragraphs(command.help or '')}\n{table}"


def option_row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    names, meaning = (it.replace("|", "\\|").replace("<", "&lt;") for it in record)
    words = " ".join(meaning.replace('[default: ""]', "").split())
    return f"| `{names}` | {words} |\n"


def _paragraphs(text: str) -> str:
    """The help text, whose examples are indented as in a page."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        is_example = paragraph.startswith("\b")
        lines = paragraph.removeprefix("\b").strip("\n").split("\n")
        found.append("\n".join(f"    {it}" for it in lines) if is_example else "\n".join(lines).replace("<", "&lt;"))
    return "\n\n".join(found)


def settings_page() -> str:
    return SETTINGS + "".join(
        f"\n## {title}\n" + "".join(map(section_table, sections))
        for title, sections in (("Both programs", l4_settings.SECTIONS), ("Waypoint", OWN))
    )


def section_table(section: type[Section]) -> str:
    meanings = dict(_documented(section))
    rows = (_row(variables_of(it), it.default, meanings[it.name]) for it in fields_of(section))
    return f"\n### {section.title}\n\n{COLUMNS}{''.join(rows)}"


def _row(variables: tuple[str, ...], default: object, meaning: str) -> str:
    return f"| {'<br>'.join(f'`{it}`' for it in variables)} | {_shown(default)} | {meaning} |\n"


def _documented(section: type[Section]) -> Iterator[tuple[str, str]]:
    """Each field and its docstring."""
    (its,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(its, ast.ClassDef)
    for statement, after in itertools.pairwise(its.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                raise TypeError(f"the setting {statement.target.id} has no docstring")
            yield statement.target.id, " ".join(str(after.value.value).split())


def _shown(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else ""


def metrics_page() -> str:
    """One table for what both programs have, one for each one's own: from what a scraper of a new process gets."""
    both = MeshMetrics("", "").snapshot()
    following, ztunnel, waypoint = (
        it.snapshot()[len(both) :] for it in (MeshMetrics("", "", XDS), ztunnel_metrics(""), waypoint_metrics(""))
    )
    own = tuple(it for it in ztunnel if it not in following)
    tables = (("Both programs", both), ("Both, with a discovery server", following), ("Ztunnel", own))
    serving = MeshMetrics("", "", SERVING).snapshot()[len(both) :]
    tables += (("Waypoint", waypoint), ("Controller that serves discovery", serving))
    return METRICS + "".join(f"\n## {title}\n\n{METRIC_COLUMNS}{metric_rows(its)}" for title, its in tables)


def metric_rows(metrics: MetricsSnapshot) -> str:
    return "".join(
        f"| `{it.sample_name}` | {it.kind} | {it.help_text} | {', '.join(f'`{name}`' for name in it.label_names)} |\n"
        for it in metrics
    )


def completions() -> dict[str, str]:
    """The scripts by which shells complete both programs, by the names of their files."""
    programs = {"waypoint": waypoint_commands, "ztunnel": ztunnel_commands}
    return {
        f"{program}.{shell}": script_of(shell, program, its) for program, its in programs.items() for shell in SHELLS
    }


if __name__ == "__main__":
    for name, text in completions().items():
        (COMPLETIONS / name).write_text(text)
    for name, text in pages().items():
        (DOCS / name).write_text(text)
        print(f"docs/{name} is written")
