"""The outcome of a run as a Markdown table and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bench.machine import Description
from bench.pairs import Pair, Summary, summarize


@dataclass(slots=True)
class Outcome:
    """What was measured: the pairs of each scenario, by its title, and why others don't count."""

    machine: Description
    options: Mapping[str, object]
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)

    def summaries(self) -> Iterator[tuple[str, str, Summary]]:
        """Yield scenario, figure and summary, of all that counts."""
        for title, pairs in self.pairs.items():
            for figure, summary in summarize(pairs).items():
                yield title, figure, summary

    def as_json(self) -> dict[str, object]:
        summary: dict[str, dict[str, object]] = {}
        for title, figure, it in self.summaries():
            summary.setdefault(title, {})[figure] = asdict(it)
        return {
            "machine": dict(self.machine),
            "options": dict(self.options),
            "summary": summary,
            "pairs": self.pairs,
            "void": self.void,
        }


def table(outcome: Outcome) -> str:
    """A row for each figure: medians of both, the median of the ratios, and the least and the most of them."""
    rows = [("scenario", "figure", "ours", "Envoy", "ratio", "min–max", "pairs")]
    seen: set[str] = set()
    for title, figure, it in outcome.summaries():
        name = "" if title in seen else title
        seen.add(title)
        ratio = "–" if it.ratio is None else f"{it.ratio:.2f}"
        span = "–" if it.least is None or it.most is None else f"{it.least:.2f}–{it.most:.2f}"
        count = str(len(outcome.pairs[title]))
        rows.append((name, figure, _number(it.ours), _number(it.peer), ratio, span, count))
    return "\n".join(_aligned(rows)) + "\n"


def about(machine: Description) -> str:
    """The machine in a sentence or two, for above a table."""
    profiles = "with" if machine["python is configured with --enable-optimizations"] else "without"
    return (
        f"{machine['ours']}; {machine['cores']} cores of {machine['cpu']}, kernel {machine['kernel']}; Python "
        f"{machine['python']} configured {profiles} --enable-optimizations, {machine['openssl']}; "
        f"Envoy {machine['envoy']}; load average before the run {machine['load average']}"
    )


def _number(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = (
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield "|" + "|".join("-" * (it + 1) + ("-" if col < 2 else ":") for col, it in enumerate(widths)) + "|"
