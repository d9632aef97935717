"""The chart of `bench.loadtest`, as SVG. Pure.

Four panels of bars, one bar for each arrangement. Bars of CPU and memory are stacked by kind of program. Colours are
readable on light and dark ground, and differ in lightness for those who don't see the hues.
"""

from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from bench.loadtest_table import Figures

_COLOURS = {
    "": "#7f8fa6",
    "applications": "#9aa5b1",
    "ztunnel": "#2a9d8f",
    "waypoint": "#e9a23b",
    "sidecars": "#b5485d",
}
_TEXT = "#808890"
_WIDTH, _PANEL, _HEIGHT, _BASE = 860, 215, 250, 196
_BAR, _GAP, _TALLEST = 42, 20, 140

Stack = Sequence[tuple[str, float]]
"""Kinds with their values, from the base upwards."""


def chart(figures: Figures, rate: float, connections: int) -> str:
    """Return the document."""
    panels = {
        f"p50 ms, {rate:g} pages/s": {it: [("", its["load"]["open_p50_ms"])] for it, its in figures.items()},
        f"p99 ms, {rate:g} pages/s": {it: [("", its["load"]["open_p99_ms"])] for it, its in figures.items()},
        "CPU ms per page": {it: list(its["cpu_ms"].items()) for it, its in figures.items()},
        "memory, MiB": {it: list(its["memory_mib"].items()) for it, its in figures.items()},
    }
    parts = [part for index, it in enumerate(panels.items()) for part in _panel(index * _PANEL, *it)]
    title = escape(f"Bookinfo without a mesh, ambient, and with sidecars; {connections} connections")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}"'
    style = f'font-family="sans-serif" font-size="12" fill="{_TEXT}">'
    return "\n".join([f"{head} {style}", f"<title>{title}</title>", *parts, *_legend(), "</svg>", ""])


def _panel(left: int, title: str, bars: Mapping[str, Stack]) -> Iterator[str]:
    yield f'<text x="{left + 8}" y="20" font-weight="bold">{escape(title)}</text>'
    most = max(sum(value for _, value in stack) for stack in bars.values()) or 1.0
    for index, (name, stack) in enumerate(bars.items()):
        x, y = left + 8 + index * (_BAR + _GAP), float(_BASE)
        for kind, value in stack:
            height = value / most * _TALLEST
            y -= height
            yield f'<rect x="{x}" y="{y:.1f}" width="{_BAR}" height="{height:.1f}" fill="{_COLOURS[kind]}"/>'
        middle = x + _BAR / 2
        total = sum(value for _, value in stack)
        yield f'<text x="{middle:g}" y="{y - 5:.1f}" text-anchor="middle">{total:.3g}</text>'
        yield f'<text x="{middle:g}" y="{_BASE + 16}" text-anchor="middle">{escape(name)}</text>'


def _legend() -> Iterator[str]:
    x = 2 * _PANEL + 8
    for kind, colour in _COLOURS.items():
        if kind:
            yield f'<rect x="{x}" y="{_HEIGHT - 22}" width="10" height="10" fill="{colour}"/>'
            yield f'<text x="{x + 14}" y="{_HEIGHT - 13}">{escape(kind)}</text>'
            x += 24 + 7 * len(kind)
