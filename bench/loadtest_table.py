"""The tables of `bench.loadtest`, as Markdown. Pure."""

from collections.abc import Callable, Iterator, Mapping

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""As `bench.loadtest.medians` gives them."""
PROXIES = ("ztunnel", "waypoint", "sidecars")


def proxies_of(values: Mapping[str, float]) -> float:
    """Return the sum of what the mesh's own programs take."""
    return sum(values.get(it, 0.0) for it in PROXIES)


def tables(figures: Figures, rate: float, connections: int) -> str:
    """Return one table of what a user feels, and one of what it costs. The last column compares with sidecars."""
    names = list(figures)
    felt: dict[str, Callable[[Mapping[str, Mapping[str, float]]], float]] = {
        f"p50 ms, {rate:g} pages/s": lambda it: it["load"]["open_p50_ms"],
        f"p99 ms, {rate:g} pages/s": lambda it: it["load"]["open_p99_ms"],
        f"p50 ms, {connections} connections": lambda it: it["load"]["closed_p50_ms"],
        f"p99 ms, {connections} connections": lambda it: it["load"]["closed_p99_ms"],
        f"pages/s, {connections} connections": lambda it: it["load"]["closed_per_second"],
        f"CPU ms/page of the mesh, {rate:g} pages/s": lambda it: proxies_of(it["cpu_ms"]),
        f"CPU ms/page of the mesh, {connections} connections": lambda it: proxies_of(it["closed_cpu_ms"]),
        "memory of the mesh, MiB": lambda it: proxies_of(it["memory_mib"]),
    }
    rows = [(title, [figure(figures[it]) for it in names]) for title, figure in felt.items()]
    compared = [(title, values, values[1] / values[2]) for title, values in rows]
    first = _markdown(
        ["", *names, "ambient/sidecars"],
        ([title, *map(_number, values), f"{ratio:.2f}"] for title, values, ratio in compared),
    )
    kinds = dict.fromkeys(kind for it in names for kind in figures[it]["memory_mib"])
    costs = ([kind, *(_cost(figures[it], kind) for it in names)] for kind in kinds)
    second = _markdown([f"CPU ms/page at {rate:g} pages/s; MiB", *names], costs)
    return f"{first}\n\n{second}"


def _cost(figures: Mapping[str, Mapping[str, float]], kind: str) -> str:
    if kind not in figures["memory_mib"]:
        return "–"
    return f"{_number(figures['cpu_ms'][kind])}; {figures['memory_mib'][kind]:.0f}"


def _number(value: float) -> str:
    return "–" if not value else f"{value:.3g}"


def _markdown(heading: list[str], rows: Iterator[list[str]]) -> str:
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *rows]
    return "\n".join(f"| {' | '.join(it)} |" for it in lines)
