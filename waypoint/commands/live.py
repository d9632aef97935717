"""The subcommands `waypoint tap` and `waypoint top`: live requests and rates."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from l4.asking.options import output, run, target

if TYPE_CHECKING:
    from l4.asking.reach import Target

F = TypeVar("F", bound=Callable[..., Any])
_FILTERS = {
    "method": ("METHOD", "Such as GET."),
    "path": ("PATTERN", "Path, or path with query if the pattern has an equals sign; * and ? are wildcards."),
    "status": ("STATUS", "Such as 503, 5xx or 400-499; 0 is no answer."),
    "slower": ("MILLISECONDS", "At least this duration."),
    "source": ("PATTERN", "Client: workload, NAMESPACE/WORKLOAD, identity or address."),
    "destination": ("PATTERN", "Service, its hostname, NAMESPACE/NAME, or the endpoint's workload or address."),
    "route": ("PATTERN", "Name of the route."),
    "header": ("NAME[:PATTERN]", "Request header. All of several must match."),
}


def filters(command: F) -> F:
    """Add an option for each condition of `/tap`; the command gets them by name."""
    for name, (metavar, text) in reversed(_FILTERS.items()):
        names = ("-H", f"--{name}") if name == "header" else (f"--{name}",)
        command = click.option(*names, multiple=True, metavar=metavar, help=f"{text} Repeatable.")(command)
    return command


def _query(asked: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in asked.items() for value in values]


@click.command()
@target("waypoint")
@filters
@click.option("--show", multiple=True, metavar="NAME", help="Include this request header; repeatable.")
@click.option("--count", type=click.IntRange(1), help="End after so many requests.")
@output
def tap(target: "Target", show: tuple[str, ...], count: int | None, output: str, **asked: tuple[str, ...]) -> None:
    """Show live requests of a running waypoint, as they end, until Ctrl-C.

    \b
    waypoint tap --destination reviews --status 5xx
    waypoint tap -n shop deploy/waypoint --source productpage-v1 -H end-user:jason --show end-user -o json

    Values of one option are alternatives; different options must all match. Values of headers and parameters are left
    out if their names sound like credentials. With -o json each line is one object. Requests that arrive faster than
    they are shown are dropped, and their number is told.
    """
    from waypoint.commands.following import follow_requests

    run(follow_requests(target, _query({**asked, "show": show}), output, count))


@click.command()
@target("waypoint")
@filters
@click.option(
    "--by",
    default="destination,route",
    show_default=True,
    metavar="COLUMN[,COLUMN...]",
    help="Group by source, destination, workload, route, method or program.",
)
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=click.IntRange(1), help="End after so many intervals.")
@output
def top(target: "Target", by: str, interval: float, count: int | None, output: str, **asked: tuple[str, ...]) -> None:
    """Show live rates of a running waypoint: requests, errors and percentiles of durations, until Ctrl-C.

    \b
    waypoint top
    waypoint top -n shop deploy/waypoint --by source,destination --interval 5

    An error is a status from 500 on, or no answer. Percentiles are exact to five percent. Of several waypoints they are
    computed from the durations of all; --by program,route shows each by itself. With -o json each line is one interval.
    """
    from waypoint.commands.following import follow_rates

    columns = list(dict.fromkeys(by.split(",")))
    run(follow_rates(target, [("interval", str(interval)), *_query(asked)], columns, output, count))
