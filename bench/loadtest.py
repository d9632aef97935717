"""`make loadtest`: Bookinfo without a mesh, with the ambient one, and with a sidecar beside each pod.

    .venv/bin/python -m bench.loadtest --seconds 20 --rate 60 --rounds 3 --chart chart.svg

Each round starts the arrangements in turn, every other round the other way round, and loads each in an open loop (pages
at a fixed rate) and in a closed one (connections that ask again at once). What is printed is the median of the rounds.

Exit status: 0 measured, 1 an arrangement did not start or a page failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import machine, pages
from bench.arrangements import ARRANGEMENTS, PACKAGES, CannotStart, Running, running
from bench.loadtest_chart import chart
from bench.loadtest_table import tables

_WARM_UP_SECONDS = 2.0


class Void(Exception):
    """Pages failed. The message says how many, and where."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What one loop of load has shown. `cpu_ms` is milliseconds of CPU per page, by name of a program."""

    pages: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one arrangement in one round. `memory_mib` is after both loops, by name of a program; `kinds` are theirs."""

    arrangement: str
    open: Loop
    closed: Loop
    memory_mib: Mapping[str, float]
    kinds: Mapping[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops like Ctrl-C: no process is left behind
    _say(f"the proxies are those in {PACKAGES}")
    described = machine.describe(python=sys.executable, packages=PACKAGES)  # before it, for the load of others
    try:
        rounds = [list(_round(number, options)) for number in range(options.rounds)]
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (CannotStart, Void) as error:
        return _fail(str(error), 1)
    found = medians(rounds)
    if options.chart is not None:
        options.chart.write_text(chart(found, options.rate, options.connections))
    if options.json:
        settings = {name: getattr(options, name) for name in ("seconds", "rate", "connections", "rounds")}
        each = [[asdict(it) for it in outcomes] for outcomes in rounds]
        print(json.dumps({"machine": described, "settings": settings, "rounds": each, "medians": found}, indent=1))
    else:
        print(tables(found, options.rate, options.connections))
    return 0


def medians(rounds: Sequence[Sequence[Outcome]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return by arrangement: `load`, and `cpu_ms` (per page at the fixed rate) and `memory_mib` by kind of program."""
    found = {}
    for name in ARRANGEMENTS:
        its = [it for outcomes in rounds for it in outcomes if it.arrangement == name]
        found[name] = {
            "load": {
                f"{loop}_{figure}": median(getattr(getattr(it, loop), figure) for it in its)
                for loop in ("open", "closed")
                for figure in ("per_second", "p50_ms", "p99_ms")
            },
            "cpu_ms": _medians([_by_kind(it.open.cpu_ms, it.kinds) for it in its]),
            "closed_cpu_ms": _medians([_by_kind(it.closed.cpu_ms, it.kinds) for it in its]),
            "memory_mib": _medians([_by_kind(it.memory_mib, it.kinds) for it in its]),
        }
    return found


def _medians(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {kind: median(it[kind] for it in values) for kind in values[0]}


def _by_kind(values: Mapping[str, float], kinds: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        found[kinds[name]] = found.get(kinds[name], 0.0) + value
    return found


def _round(number: int, options: argparse.Namespace) -> Iterator[Outcome]:
    for name in ARRANGEMENTS if number % 2 == 0 else reversed(ARRANGEMENTS):
        with tempfile.TemporaryDirectory(prefix="loadtest-") as folder, running(name, Path(folder)) as it:
            pages.closed(it.page, connections=options.connections, seconds=min(_WARM_UP_SECONDS, options.seconds))
            steady, busy = _open(it, options), _closed(it, options)
            kinds = {program.name: program.kind for program in it.programs}
            yield Outcome(name, steady, busy, it.memory_mib(), kinds)
        _say(f"round {number + 1} of {options.rounds}: {name} is done")


def _open(it: Running, options: argparse.Namespace) -> Loop:
    before = it.cpu_seconds()
    load = pages.opened(it.page, rate=options.rate, connections=options.connections, seconds=options.seconds)
    return _loop(it, load, before)


def _closed(it: Running, options: argparse.Namespace) -> Loop:
    before = it.cpu_seconds()
    return _loop(it, pages.closed(it.page, connections=options.connections, seconds=options.seconds), before)


def _loop(it: Running, load: pages.Load, before: Mapping[str, float]) -> Loop:
    """Raises Void."""
    if load.failed or not load.milliseconds:
        raise Void(f"{it.name}: {load.failed} of {load.failed + len(load.milliseconds)} pages failed")
    count = len(load.milliseconds)
    cpu = {name: (seconds - before[name]) * 1000 / count for name, seconds in it.cpu_seconds().items()}
    return Loop(count, load.per_second, load.percentile(50), load.percentile(99), cpu)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.loadtest", description="Bookinfo in three arrangements.")
    parser.add_argument("--seconds", type=_positive, default=15.0, help="of each loop of load (15)")
    parser.add_argument("--rate", type=_positive, default=40.0, help="pages per second in the open loop (40)")
    parser.add_argument("--connections", type=int, default=8, choices=range(1, 257), metavar="N", help="of clients (8)")
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 101), metavar="N", help="(3)")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write the chart, as SVG")
    parser.add_argument("--json", action="store_true", help="every round's figures, and their medians")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    if (number := float(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0")
    return number


def _fail(sentence: str, status: int) -> int:
    print(f"loadtest: {sentence}", file=sys.stderr)
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
