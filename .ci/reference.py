"""Writes the pages of docs/ that come from the code, for `make docs`: `settings.md` from the sections that each
program lists, `metrics.md` from the metrics that each program lists."""

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

from l4 import settings as l4_settings
from l4.config.settings import Section, fields_of, variables_of
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.samples import MetricsSnapshot
from l4.xds.metrics import METRICS as XDS
from l4.ztunnel.metrics import ztunnel_metrics
from waypoint.metrics import waypoint_metrics
from waypoint.settings import OWN

DOCS = Path(__file__).parents[1] / "docs"
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

`make docs` writes this page from the lists in `l4/telemetry/metrics.py`, `l4/xds/metrics.py`, `l4/ztunnel/metrics.py`
and `waypoint/metrics.py`.
"""
METRIC_COLUMNS = "| metric | type | meaning | labels |\n|---|---|---|---|\n"
COLUMNS = "| variable | default | meaning |\n|---|---|---|\n"


def pages() -> dict[str, str]:
    return {"settings.md": settings_page(), "metrics.md": metrics_page()}


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
    tables += (("Waypoint", waypoint),)
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
