"""Results of commands as a table, as JSON or as YAML. Programs read the latter two, which have every column."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, str | Callable[[Row], object]]
"""Heading, and the key of a row or a function of it."""
FORMATS = ("table", "json", "yaml")


def written(found: object, output: str) -> str:
    """Return plain values as JSON or YAML."""
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if output == "json":
        return text
    import yaml

    plain = json.loads(text)  # YAML represents no subclasses of str
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip("\n")


def table(rows: Iterable[Row], columns: Sequence[Column], *, empty: str = "none") -> str:
    """Return rows under headings, in columns as wide as their content."""
    lines = [[heading for heading, _ in columns]]
    lines += [[_cell(row.get(it) if isinstance(it, str) else it(row)) for _, it in columns] for row in rows]
    if len(lines) == 1:
        return empty
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def age(seconds: float) -> str:
    """Return a duration in its two largest units, such as `3h12m`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def size(count: int | None) -> str:
    """Return bytes with a unit, such as `1.5 MiB`."""
    if count is None:
        return "-"
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    text = str(value)
    return text if text.isprintable() else "".join(it if it.isprintable() else f"\\x{ord(it):02x}" for it in text)
