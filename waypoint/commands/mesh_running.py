"""Subcommands of `waypoint mesh` for the mesh that runs: `status`, `logs`, `exec`, `call` and `load`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from l4.asking.options import output, print_rows

if TYPE_CHECKING:
    from waypoint.mesh.call import Request
    from waypoint.mesh.load import Summary

F = TypeVar("F", bound=Callable[..., Any])


def _complete_pods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of pods in the running mesh."""
    from l4.asking.laptop import folder
    from waypoint.mesh.running import names

    return [CompletionItem(name) for name in names(folder(os.environ)) if name.startswith(incomplete)]


@contextmanager
def _told() -> Iterator[None]:
    """Exit with 1 and a sentence if no mesh runs, or if it lacks what is named."""
    from waypoint.mesh.call import CannotCall
    from waypoint.mesh.running import NotRunning

    try:
        yield
    except (NotRunning, CannotCall) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)


@click.command()
@output
def status(output: str) -> None:
    """Show the proxies and programs of the running mesh. Exit status: 0 all are ready, 1 not all, or no mesh runs."""
    import asyncio

    from l4.asking.laptop import folder
    from waypoint.mesh.state import states

    with _told():
        found = asyncio.run(states(folder(os.environ)))
    columns = [("NAME", "name"), ("KIND", "kind"), ("POD", "pod"), ("ADDRESS", "address"), ("STATE", "state")]
    print_rows(found, columns, output)
    sys.exit(0 if all(it["state"] == "ready" for it in found) else 1)


@click.command()
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=_complete_pods)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(0), default=100, show_default=True, help="Last lines of each log.")
@click.option("--access", is_flag=True, help="Access logs of the proxies instead of their own logs.")
def logs(names: tuple[str, ...], follow: bool, tail: int, access: bool) -> None:
    """Print logs of the running mesh: of proxies (ztunnel, waypoint, a Gateway's name), pods and programs.

    \b
    waypoint mesh logs -f
    waypoint mesh logs waypoint --access -f
    waypoint mesh logs productpage --tail 20
    """
    from l4.asking.laptop import folder
    from waypoint.mesh import state

    with _told():
        found = state.logs(folder(os.environ), names, has_access=access)
        width = max((len(it.name) for it in found), default=0)
        for log, line in state.follow(found, tail, is_followed=follow):
            click.echo(f"{log.name:<{width}}  {line}" if len(found) > 1 else line)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("workload", metavar="[NAMESPACE/]WORKLOAD", shell_complete=_complete_pods)
@click.argument("command", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(workload: str, command: tuple[str, ...]) -> None:
    """Run COMMAND as a pod of the running mesh, with its environment, its identity, and its view of Services.

    \b
    waypoint mesh exec productpage -- curl -s http://reviews:9080/reviews/0

    WORKLOAD is a pod, its owner (such as a Deployment), or a Service that selects it. Names of Services in the
    arguments are replaced by the addresses at which the pod calls them.
    """
    from l4.asking.laptop import folder
    from waypoint.mesh.call import execute
    from waypoint.mesh.running import find

    with _told():
        execute(find(folder(os.environ), workload), command, os.environ)


def _request(command: F) -> F:
    """Add what a request is made of; `_asked` makes it."""
    for option in (
        click.option("-d", "--data", default="", help="The request's body."),
        click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Repeatable."),
        click.option("-X", "--method", default="GET", show_default=True),
        click.option(
            "--as",
            "workload",
            required=True,
            metavar="[NAMESPACE/]WORKLOAD",
            shell_complete=_complete_pods,
            help="The client: a pod, its owner, or a Service that selects it.",
        ),
        click.argument("target", metavar="HOST[:PORT][/PATH]"),
    ):
        command = option(command)
    return command


def _asked(target: str, method: str, headers: tuple[str, ...], data: str) -> "Request":
    """Raises click.UsageError."""
    from waypoint.mesh.call import Request

    for header in headers:
        if not header.partition(":")[0].strip() or ":" not in header:
            raise click.UsageError(f"{header!r} is not of the form NAME: VALUE")
    fields = tuple((name.strip(), value.strip()) for name, _, value in (header.partition(":") for header in headers))
    return Request(method, target, fields, data.encode())


@click.command()
@_request
@click.option("-n", "--requests", "count", type=click.IntRange(1, 100_000), default=1, show_default=True)
@click.option("-c", "--at-once", type=click.IntRange(1, 256), default=1, show_default=True, help="Concurrent requests.")
@output
def call(
    target: str,
    workload: str,
    method: str,
    headers: tuple[str, ...],
    data: str,
    count: int,
    at_once: int,
    output: str,
) -> None:
    """Send a request through the running mesh as one of its pods, and show the response.

    \b
    waypoint mesh call reviews:9080/reviews/0 --as productpage
    waypoint mesh call ratings:9080/ratings/0 --as productpage -n 20 -c 8

    A single response is shown in full; several are counted by status. Exit status: 0 all requests got responses, 1 some
    did not, 2 wrong usage.
    """
    import asyncio

    from l4.asking.laptop import folder
    from l4.asking.output import written
    from waypoint.mesh import call as calls
    from waypoint.mesh.running import find

    request = _asked(target, method, headers, data)
    with _told():
        answers = asyncio.run(calls.call(find(folder(os.environ), workload), request, count, at_once))
    click.echo(calls.as_text(answers) if output == "table" else written(calls.values(answers), output))
    sys.exit(0 if all(answer.status for answer in answers) else 1)


@click.command()
@_request
@click.option(
    "--rate", type=click.FloatRange(0.1, 100_000), default=10.0, show_default=True, help="Requests per second."
)
@click.option("--duration", type=click.FloatRange(0.1, 86_400), default=10.0, show_default=True, help="Seconds.")
@click.option("-c", "--connections", type=click.IntRange(1, 1024), default=16, show_default=True, help="At most.")
@output
def load(
    target: str,
    workload: str,
    method: str,
    headers: tuple[str, ...],
    data: str,
    rate: float,
    duration: float,
    connections: int,
    output: str,
) -> None:
    """Send requests through the running mesh at a constant rate, and sum up the answers.

    \b
    waypoint mesh load reviews:9080/reviews/0 --as productpage --rate 50 --duration 30

    A duration counts from the moment at which the request was due, even if it had to wait for a connection. Exit
    status: 0 all requests got answers below 500, 1 some did not, 2 wrong usage.
    """
    import asyncio

    from l4.asking.laptop import folder
    from l4.asking.output import written
    from waypoint.mesh import load as loads
    from waypoint.mesh.running import find

    request = _asked(target, method, headers, data)

    def report(seconds: float, latest: "Summary") -> None:
        found = latest.values()
        click.echo(f"{seconds:5.0f} s  {found['per_second']} per second, p99 {found['p99_ms']:.1f} ms", err=True)

    with _told():
        pod = find(folder(os.environ), workload)
        summary = asyncio.run(loads.load(pod, request, rate, duration, connections, report))
    click.echo(loads.as_text(summary) if output == "table" else written(summary.values(), output))
    sys.exit(1 if summary.has_failed else 0)
