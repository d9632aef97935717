"""Writes the pages of docs/ that come from the code, for `make docs`: `settings.md` from the fields and docstrings of
`l4/config/settings.py`, `metrics.md` from the metrics that each program lists."""

import ast
import dataclasses
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from l4.config import settings
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.samples import MetricsSnapshot
from waypoint.metrics import waypoint_metrics
from waypoint.settings import SECTIONS

DOCS = Path(__file__).parents[1] / "docs"
SETTINGS = """# Settings

Both programs read these environment variables when they start; each ignores those that it has no use for. A bad value
ends the start with a sentence that names the variable. Times are seconds, or carry a unit, such as `500ms` or `5m`.
Sizes are bytes. Flags have variables, too: `--help` names them.

`make docs` writes this page from `l4/config/settings.py`.
"""
METRICS = """# Metrics

Both programs serve metrics on port 15020, in Prometheus' text format or in OpenMetrics. A label without a value is
`unknown`. Prometheus' own metrics of a process (`process_…`) come with them.

`make docs` writes this page from the lists in `l4/telemetry/metrics.py` and `waypoint/metrics.py`.
"""
METRIC_COLUMNS = "| metric | type | meaning | labels |\n|---|---|---|---|\n"
COLUMNS = "| variable | default | meaning |\n|---|---|---|\n"
SECTION = re.compile(r"^    # -- (.+)$")


def pages() -> dict[str, str]:
    return {"settings.md": settings_page(), "metrics.md": metrics_page()}


def settings_page() -> str:
    source = Path(settings.__file__).read_text()
    lines = source.splitlines()
    defaults = {field.name: field.default for field in dataclasses.fields(settings.Settings)}
    parts = [SETTINGS]
    for name, line, meaning in _documented(source, "Settings"):
        if section := SECTION.match(lines[line - 2]):
            parts.append(f"\n## {section[1][:1].upper()}{section[1][1:]}\n\n{COLUMNS}")
        parts.append(_row(settings.variables(name), defaults[name], meaning))
    for its in SECTIONS:
        parts.append(f"\n## {its.title}\n\n{COLUMNS}")
        meanings = {name: meaning for name, _, meaning in _documented(inspect.getsource(its), its.__name__)}
        parts += (_row(settings.variables_of(it), it.default, meanings[it.name]) for it in dataclasses.fields(its))
    return "".join(parts)


def _row(variables: tuple[str, ...], default: object, meaning: str) -> str:
    return f"| {'<br>'.join(f'`{it}`' for it in variables)} | {_shown(default)} | {meaning} |\n"


def _documented(source: str, name: str) -> Iterator[tuple[str, int, str]]:
    """Name, line and docstring of each field."""
    (body,) = (it.body for it in ast.parse(source).body if isinstance(it, ast.ClassDef) and it.name == name)
    for statement, after in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.target.id == "sections":
                continue
            if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                raise TypeError(f"the setting {statement.target.id} has no docstring")
            yield statement.target.id, statement.lineno, " ".join(str(after.value.value).split())


def _shown(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else ""


def metrics_page() -> str:
    """One table for what both programs have, one for the waypoint's own: from what a scraper of a new process gets."""
    both = MeshMetrics("ztunnel", "").snapshot()
    own = waypoint_metrics("").snapshot()[len(both) :]
    tables = (("Both programs", both), ("Waypoint", own))
    return METRICS + "".join(f"\n## {title}\n\n{METRIC_COLUMNS}{metric_rows(its)}" for title, its in tables)


def metric_rows(metrics: MetricsSnapshot) -> str:
    return "".join(
        f"| `{it.sample_name}` | {it.kind} | {it.help_text} | {', '.join(f'`{name}`' for name in it.label_names)} |\n"
        for it in metrics
    )


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)
        print(f"docs/{name} is written")
