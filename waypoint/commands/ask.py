"""Subcommands that examine a configuration without sending requests: `analyze`, `compile`, `explain` and `replay`."""

import sys
from pathlib import Path
from typing import BinaryIO

import click
from click.shell_completion import CompletionItem

from l4.asking.options import complete_proxies, output, print_rows
from l4.asking.output import FORMATS
from l4.command_line import EXISTING, AddressType, api_server, server_from, source, source_from
from l4.config.codes import Level
from waypoint.commands.parameters import MANIFESTS, GatewayType, settings
from waypoint.process.options import Address, GatewayName

_PATHS = "PATH (- is standard input)"
_LEVEL = click.Choice(Level, case_sensitive=False)


def _complete_codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from waypoint.ask.codes import CODES

    return [CompletionItem(f"{it}=", help=it.label) for it in CODES if it.startswith(incomplete)]


@click.command()
@click.argument("paths", metavar="[PATH...]", type=MANIFESTS, nargs=-1)
@api_server
@click.option("--gateway", type=GatewayType(), help="Only the waypoint of this Gateway; default: all.")
@click.option(
    "-R",
    "--recursive",
    is_flag=True,
    expose_value=False,
    help="Accepted for compatibility; folders are always read recursively.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice([*FORMATS, "log"]),
    default="table",
    show_default=True,
    help="log is what istioctl calls table.",
)
@click.option(
    "-S",
    "--suppress",
    multiple=True,
    metavar="CODE=KIND NAME.NAMESPACE",
    shell_complete=_complete_codes,
    help="Suppress this finding; * and ? are wildcards; repeatable. The annotation galley.istio.io/analyze-suppress "
    "does the same for one object.",
)
@click.option("--failure-threshold", type=_LEVEL, default=Level.ERROR, help="Exit with 1 from this level on.")
@click.option("--output-threshold", type=_LEVEL, default=Level.INFO, help="Print from this level on.")
@click.option("--list-codes", is_flag=True, help="Print all codes with their meaning, and exit.")
def analyze(
    paths: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    gateway: GatewayName | None,
    output: str,
    suppress: tuple[str, ...],
    failure_threshold: Level,
    output_threshold: Level,
    list_codes: bool,
) -> None:
    """Find errors and likely mistakes in manifests, or in what an API server has, without running anything.

    PATH is a file, a folder, or - for standard input; later ones take precedence. Exit status: 0 no finding reaches
    the threshold, 1 some finding does or the API server could not be read, 2 wrong usage.
    """
    from waypoint.ask import commands, listing

    if list_codes:
        click.echo(listing.code_table())
        return
    objects = source_from(paths, kubernetes, kubeconfig, context, _PATHS)
    name = (gateway.namespace, gateway.name) if gateway else None
    question = commands.Question(objects, name, settings())
    sys.exit(commands.run_analyze(question, output, suppress, failure_threshold, output_threshold))


@click.command("compile")
@click.argument("paths", metavar="[PATH...]", type=MANIFESTS, nargs=-1)
@api_server
@click.option("--gateway", type=GatewayType(), help="The Gateway of the waypoint; optional if there is only one.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(FORMATS),
    default="yaml",
    show_default=True,
    help="table has the routes only, as `waypoint routes` shows them; with --status, the conditions.",
)
@click.option("--status", is_flag=True, help="Print only the status of routes, policies and the Gateway.")
def compile_(
    paths: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    gateway: GatewayName | None,
    output: str,
    status: bool,
) -> None:
    """Print the configuration that a waypoint would compile from manifests, or from what an API server has. It is like
    /config_dump of a running waypoint.

    PATH is a file, a folder, or - for standard input; later ones take precedence. Exit status: 0 printed, 1 the API
    server could not be read, 2 wrong usage.
    """
    from waypoint.ask import commands

    objects = source_from(paths, kubernetes, kubeconfig, context, _PATHS)
    name = (gateway.namespace, gateway.name) if gateway else None
    dumped = commands.compiled(commands.Question(objects, name, settings()))
    if output == "table":
        from waypoint.commands.tables import CONDITIONS, TABLES, conditions
        from waypoint.process.facts import routes

        if status:
            print_rows(conditions(dumped["status"]), CONDITIONS, output)
        else:
            print_rows(routes(dumped), TABLES["routes"][1], output)
    else:
        commands.print_compiled(dumped["status"] if status else dumped, output)


@click.command()
@click.argument("waypoint", metavar="[WAYPOINT]", default="", shell_complete=complete_proxies("waypoint"))
@source
@click.option("--gateway", type=GatewayType(), help="The Gateway of the waypoint; default: the one that serves HOST.")
@click.option("--admin", type=AddressType(), help="Ask the running waypoint with this administration port.")
@click.option(
    "-n",
    "--namespace",
    default="",
    metavar="NAMESPACE",
    help="WAYPOINT is in this namespace of a cluster: deploy/waypoint.",
)
@click.option(
    "--from",
    "client",
    default="default/default",
    show_default=True,
    metavar="NAMESPACE/ACCOUNT",
    help="Service account of the client workload.",
)
@click.option(
    "--to",
    required=True,
    metavar="HOST[:PORT]",
    help="Such as reviews:9080, reviews.default, a full hostname or an address.",
)
@click.option("--method", default="GET", show_default=True)
@click.option("--path", "target", default="/", show_default=True, help="Path with query.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Repeatable.")
@output
def explain(
    waypoint: str,
    resources: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    gateway: GatewayName | None,
    admin: Address | None,
    namespace: str,
    client: str,
    to: str,
    method: str,
    target: str,
    headers: tuple[str, ...],
    output: str,
) -> None:
    """Explain how a request is routed: the candidate routes, which one wins, why others do not, and what it does.

    \b
    waypoint explain --resources manifests --from default/client --to reviews:9080 --path /x?y=1 -H 'end-user: jason'
    waypoint explain --kubernetes --from default/client --to reviews:9080
    waypoint explain --to reviews:9080
    waypoint explain -n shop deploy/waypoint --to reviews:9080

    Without files and --kubernetes, a running waypoint answers: at --admin, as a pod of a cluster, or in the laptop
    mesh, which is found by itself. The first line is the answer. Exit status: 0 explained, whatever the answer; 1 the
    waypoint or the API server could not be asked; 2 wrong usage.
    """
    from l4.asking.reach import Target
    from waypoint.ask.asking import run_explain
    from waypoint.ask.question import InvalidQuestion, Question

    running = bool(waypoint or namespace)
    server = None if running else server_from(kubernetes, kubeconfig, context)
    if [bool(resources), kubernetes or server is not None, admin is not None, running].count(True) > 1:
        raise click.UsageError(
            "use one of --resources for files, --kubernetes for an API server, and a running waypoint (--admin, or -n)"
        )
    objects = server or resources or Target("waypoint", waypoint, admin, namespace, kubeconfig, context)
    name = (gateway.namespace, gateway.name) if gateway else None
    try:
        question = Question.parse(client, to, method, target, headers)
    except InvalidQuestion as error:
        raise click.UsageError(str(error)) from None
    run_explain(objects, name, question, settings(), output)


@click.command()
@click.option(
    "--recorded",
    "recordings",
    type=click.File("rb"),
    multiple=True,
    required=True,
    help="Recording of `waypoint run --record`, or - for standard input; repeatable.",
)
@source
@click.option(
    "--against",
    type=EXISTING,
    multiple=True,
    help="Compare with these files instead of the recorded results; repeatable.",
)
@click.option("--gateway", type=GatewayType(), help="Only the waypoint of this Gateway; default: all.")
@output
@click.option("--fail-on-change", is_flag=True, help="Exit with 1 if any request would change.")
def replay(
    recordings: tuple[BinaryIO, ...],
    resources: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: Path | None,
    context: str,
    against: tuple[Path, ...],
    gateway: GatewayName | None,
    output: str,
    fail_on_change: bool,
) -> None:
    """Replay recorded requests against other manifests, or against what an API server has, and show which would be
    handled differently.

    \b
    waypoint run … --record heads.jsonl
    waypoint replay --recorded heads.jsonl --resources new
    waypoint replay --recorded heads.jsonl --resources new --against old --fail-on-change

    A recording contains the name of the route and the destination; --against also shows changes of shares, edits and
    limits. No requests are sent. Exit status: 0 done; 1 any request would change and --fail-on-change was given, or no
    line or not the API server could be read; 2 wrong usage.
    """
    from waypoint.ask.asking import run_replay

    candidate = source_from(resources, kubernetes, kubeconfig, context)
    name = (gateway.namespace, gateway.name) if gateway else None
    sys.exit(run_replay(recordings, candidate, against, name, settings(), output, fails_on_change=fail_on_change))
