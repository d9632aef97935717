"""The ratios of a table as an SVG: a dot for the median and a line from the least to the most, beside the line at 1.

Written by hand, because a library for plots weighs more than the whole bench.
"""

import math
import re
from collections.abc import Iterator
from html import escape

from bench.pairs import Summary
from bench.report import Outcome

_LABELS, _PLOT, _ROW, _MARGIN = 460, 420, 20, 24
_LEAST, _MOST = 0.1, 4.0
"""The ends of a logarithmic axis: half and double are as far from 1. What lies beyond is drawn at the end."""

_TICKS = (0.1, 0.25, 0.5, 1, 2, 4)
_GOOD, _BAD, _GREY = "#1a7f37", "#b35900", "#8c959f"
_HIGHER_IS_BETTER = re.compile(r"/s$|per CPU-second")


def ratios(outcome: Outcome) -> str:
    """A row for each figure that has a ratio. Green is better than Envoy."""
    rows = [(f"{title}: {figure}", it) for title, figure, it in outcome.summaries() if it.ratio is not None]
    height = _MARGIN * 2 + _ROW * len(rows)
    body = "\n".join((*_axis(height), *(line for n, (label, it) in enumerate(rows) for line in _row(n, label, it))))
    width = _LABELS + _PLOT + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _axis(height: int) -> Iterator[str]:
    for tick in _TICKS:
        x, width, end = _x(tick), 2 if tick == 1 else 0.5, height - _MARGIN
        yield f'<line x1="{x}" y1="{_MARGIN}" x2="{x}" y2="{end}" stroke="{_GREY}" stroke-width="{width}"/>'
        yield f'<text x="{x}" y="{_MARGIN - 8}" text-anchor="middle">{tick:g} ×</text>'


def _row(number: int, label: str, summary: Summary) -> Iterator[str]:
    ratio, least, most = summary.ratio or 1.0, summary.least or 1.0, summary.most or 1.0
    y = _MARGIN + _ROW * number + _ROW // 2
    is_better = ratio >= 1 if _HIGHER_IS_BETTER.search(label) else ratio <= 1
    color = _GOOD if is_better else _BAD
    yield f'<text x="{_LABELS - 12}" y="{y + 4}" text-anchor="end">{escape(label)}</text>'
    yield f'<line x1="{_x(least)}" y1="{y}" x2="{_x(most)}" y2="{y}" stroke="{color}" stroke-width="2"/>'
    yield f'<circle cx="{_x(ratio)}" cy="{y}" r="4" fill="{color}"><title>{ratio:.2f}</title></circle>'


def _x(ratio: float) -> float:
    inside = min(max(ratio, _LEAST), _MOST)
    return round(_LABELS + _PLOT * math.log(inside / _LEAST) / math.log(_MOST / _LEAST), 1)
