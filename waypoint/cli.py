"""The `waypoint` command. Each subcommand imports what it runs only when it runs, so that `--help` answers at once.

Exit status: 0 done, 1 it could not be done, 2 it was asked for in a wrong way.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO

import click
from click.shell_completion import CompletionItem

from l4.command_line import EXISTING, AddressType, flag, operator_ports, resources, version
from l4.config.codes import CODES, Level
from waypoint.process.options import Address, GatewayName, RunOptions

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_MANIFESTS = click.Path(exists=True, allow_dash=True, path_type=Path)
_LEVEL = click.Choice(Level, case_sensitive=False)


class _GatewayType(click.ParamType[GatewayName]):
    name = "namespace/name"

    def convert(
        self, value: str | GatewayName, param: click.Parameter | None, ctx: click.Context | None
    ) -> GatewayName:
        if isinstance(value, GatewayName):
            return value
        namespace, _, name = value.partition("/")
        if not namespace or not name or "/" in name:
            self.fail(f"{value!r} is not of the form NAMESPACE/NAME", param, ctx)
        return GatewayName(namespace, name)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The Gateways in the files that were named before."""
        from waypoint.ask.load import gateways_in

        names = gateways_in(ctx.params.get("resources") or ctx.params.get("paths") or ())
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _complete_pods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names in the running mesh."""
    from waypoint.mesh.running import folder, names

    return [CompletionItem(name) for name in names(folder(os.environ)) if name.startswith(incomplete)]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@version
def cli() -> None:
    """An L7 waypoint proxy for Istio ambient meshes."""


@cli.command(context_settings={"auto_envvar_prefix": "WAYPOINT"})
@resources
@flag("--gateway", type=_GatewayType(), required=True, help="The Gateway whose waypoint this is.")
@flag(
    "--certificate", type=_FILE, required=True, help="This workload's certificate chain, PEM; reloaded when it changes."
)
@flag("--private-key", type=_FILE, required=True, help="Its private key, PEM.")
@flag("--trust-bundle", type=_FILE, required=True, help="The roots that peers' certificates must lead to, PEM.")
@flag("--revocations", type=_FILE, help="Lists of revoked certificates, PEM, one of each authority that signs peers.")
@flag("--listen", type=AddressType(), default="0.0.0.0:15008", help="Where HBONE is accepted.")
@flag(
    "--proxy-listen",
    type=AddressType(),
    help="Where a ztunnel connects that ends the tunnels itself (waypoint-inbound-binding: PROXY); only from loopback "
    "and from PROXY_TRUSTED_ADDRESSES.",
)
@operator_ports
@flag("--access-log", default="-", metavar="PATH|-", help="One line per request; - is standard output, empty is none.")
@flag(
    "--record",
    default="",
    metavar="PATH",
    help="Record heads of requests there, without secrets, for `waypoint replay`; RECORD_ONE_IN says how many.",
)
def run(
    resources: tuple[Path, ...],
    gateway: GatewayName,
    certificate: Path,
    private_key: Path,
    trust_bundle: Path,
    revocations: Path | None,
    listen: Address,
    proxy_listen: Address | None,
    metrics: Address,
    readiness: Address,
    admin: Address,
    access_log: str,
    record: str,
) -> None:
    """Serve one Gateway as its waypoint."""
    from waypoint.process.app import run as serve

    serve(
        RunOptions(
            resources=resources,
            gateway=gateway,
            certificate=certificate,
            private_key=private_key,
            trust_bundle=trust_bundle,
            revocations=revocations,
            listen=listen,
            proxy_listen=proxy_listen,
            metrics=metrics,
            readiness=readiness,
            admin=admin,
            access_log=access_log,
            record=record,
        )
    )


@cli.group()
def mesh() -> None:
    """A whole mesh on this machine, without root and without Kubernetes."""


@mesh.command()
@click.argument("manifests", metavar="MANIFEST...", type=EXISTING, nargs=-1, required=True)
@click.option(
    "--programs", type=_FILE, multiple=True, required=True, help="Which program stands in for which image; repeatable."
)
@click.option(
    "--ingress",
    multiple=True,
    metavar="[NAMESPACE/]SERVICE[:PORT][=ADDRESS:PORT]",
    help="Where a browser enters; the first one at 127.0.0.1:9080 unless given; repeatable.",
)
@click.option(
    "--run-directory",
    type=_FOLDER,
    help="Keep certificates, generated objects and logs here instead of in a temporary folder.",
)
@click.option(
    "--access-log", is_flag=True, help="Show the waypoints' access logs here instead of writing them to files."
)
def up(
    manifests: tuple[Path, ...],
    programs: tuple[Path, ...],
    ingress: tuple[str, ...],
    run_directory: Path | None,
    access_log: bool,
) -> None:
    """Run Deployments of MANIFEST... as programs, with a ztunnel and a waypoint per Gateway, until Ctrl-C.

    Edits of the manifests are followed live.
    """
    from waypoint.mesh.ingress import Ingress
    from waypoint.mesh.laptop import MeshOptions
    from waypoint.mesh.programs import InvalidPrograms, load_programs
    from waypoint.mesh.up import run_mesh

    try:
        options = MeshOptions(
            manifests=manifests,
            programs=load_programs(programs),
            ingresses=tuple(Ingress.parse(text, position) for position, text in enumerate(ingress)),
            run_directory=run_directory,
            shows_access_log=access_log,
            environment=dict(os.environ),
        )
    except (InvalidPrograms, ValueError) as error:
        raise click.UsageError(str(error)) from None
    sys.exit(run_mesh(options))


@mesh.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("workload", metavar="[NAMESPACE/]WORKLOAD", shell_complete=_complete_pods)
@click.argument("command", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(workload: str, command: tuple[str, ...]) -> None:
    """Run COMMAND as a pod of the running mesh: with its environment, its identity, and the Services that it sees.

    \b
    waypoint mesh exec productpage -- curl -s http://reviews:9080/reviews/0

    WORKLOAD is a pod, what made it (a Deployment, say), or a Service that selects it. Names of Services in the
    arguments become the addresses by which the pod calls them.
    """
    from waypoint.mesh.call import CannotCall, execute
    from waypoint.mesh.running import NotRunning, find, folder

    try:
        execute(find(folder(os.environ), workload), command, os.environ)
    except (NotRunning, CannotCall) as error:
        raise click.ClickException(str(error)) from None


@mesh.command()
@click.argument("target", metavar="HOST[:PORT][/PATH]")
@click.option(
    "--as",
    "workload",
    required=True,
    metavar="[NAMESPACE/]WORKLOAD",
    shell_complete=_complete_pods,
    help="Who calls: a pod, what made it, or a Service that selects it.",
)
@click.option("-X", "--method", default="GET", show_default=True)
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Repeatable.")
@click.option("-d", "--data", default="", help="The request's body.")
@click.option("-n", "--requests", "count", type=click.IntRange(1, 100_000), default=1, show_default=True)
@click.option("-c", "--at-once", type=click.IntRange(1, 256), default=1, show_default=True, help="How many at a time.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
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
    """Send a request through the running mesh as one of its pods, and show the answer.

    \b
    waypoint mesh call reviews:9080/reviews/0 --as productpage
    waypoint mesh call ratings:9080/ratings/0 --as productpage -n 20 -c 8

    One answer is shown whole, several are counted by status. Exit status: 0 every request was answered, 1 one was not,
    2 wrong usage.
    """
    import asyncio

    from waypoint.mesh import call as calls
    from waypoint.mesh.running import NotRunning, find, folder

    for header in headers:
        if not header.partition(":")[0].strip() or ":" not in header:
            raise click.UsageError(f"{header!r} is not of the form NAME: VALUE")
    fields = tuple((name.strip(), value.strip()) for name, _, value in (header.partition(":") for header in headers))
    request = calls.Request(method, target, fields, data.encode())
    try:
        answers = asyncio.run(calls.call(find(folder(os.environ), workload), request, count, at_once))
    except (NotRunning, calls.CannotCall) as error:
        raise click.ClickException(str(error)) from None
    click.echo(calls.as_json(answers) if output == "json" else calls.as_text(answers))
    sys.exit(0 if all(answer.status for answer in answers) else 1)


@cli.group()
def certificate() -> None:
    """Certificates for a mesh without an authority of its own: laptops and tests.

    \b
    waypoint certificate root certificates
    waypoint certificate workload certificates default/waypoint default/bookinfo-reviews

    Whoever can read the folder can be anybody in the mesh.
    """


@certificate.command("root")
@click.argument("folder", type=_FOLDER)
@click.option("--days", type=click.IntRange(1, 36500), default=3650, show_default=True, help="How long it is good for.")
@click.option(
    "--force", is_flag=True, help="In place of one that is there: what that one signed is then worth nothing."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def certificate_root(folder: Path, days: int, force: bool, output: str) -> None:
    """Make a development root: FOLDER/root.pem, which is the trust bundle, and FOLDER/root.key.

    Exit status: 0 made, 1 there is one already or the folder can't be written, 2 wrong usage.
    """
    from waypoint import certificates

    try:
        made = [certificates.make_root(folder, days, replaces=force)]
    except certificates.CannotMake as error:
        raise click.ClickException(str(error)) from None
    click.echo(certificates.as_json(made) if output == "json" else certificates.as_text(made))


@certificate.command("workload")
@click.argument("folder", type=_FOLDER)
@click.argument("accounts", metavar="NAMESPACE/SERVICEACCOUNT...", nargs=-1, required=True)
@click.option("--trust-domain", default="cluster.local", envvar="TRUST_DOMAIN", show_envvar=True, show_default=True)
@click.option(
    "--hours", type=click.IntRange(1, 876000), default=24, show_default=True, help="How long each is good for."
)
@click.option("--force", is_flag=True, help="In place of those that are there, as for renewing them.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def certificate_workload(
    folder: Path, accounts: tuple[str, ...], trust_domain: str, hours: int, force: bool, output: str
) -> None:
    """Make certificates that the root in FOLDER signs: NAMESPACE.SERVICEACCOUNT.pem and .key there, for each.

    Exit status: 0 all were made, 1 none was, 2 wrong usage.
    """
    from waypoint import certificates

    try:
        identities = [certificates.identity(trust_domain, account) for account in accounts]
        made = certificates.make_workloads(folder, identities, hours, replaces=force)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except certificates.CannotMake as error:
        raise click.ClickException(str(error)) from None
    click.echo(certificates.as_json(made) if output == "json" else certificates.as_text(made))


def _complete_codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(f"{it}=", help=entry.name) for it, entry in CODES.items() if it.startswith(incomplete)]


@cli.command()
@click.argument("paths", metavar="PATH...", type=_MANIFESTS, nargs=-1)
@click.option("--gateway", type=_GatewayType(), help="Only for the waypoint of this Gateway; else for all of them.")
@click.option(
    "-R", "--recursive", is_flag=True, expose_value=False, help="As folders are always read; accepted from habit."
)
@click.option("-o", "--output", type=click.Choice(["log", "json", "yaml"]), default="log", show_default=True)
@click.option(
    "-S",
    "--suppress",
    multiple=True,
    metavar="CODE=KIND NAME.NAMESPACE",
    shell_complete=_complete_codes,
    help="Leave this out; * and ? are wildcards; repeatable. The annotation galley.istio.io/analyze-suppress does the "
    "same for one object.",
)
@click.option("--failure-threshold", type=_LEVEL, default=Level.ERROR, help="From which level on to exit with 1.")
@click.option("--output-threshold", type=_LEVEL, default=Level.INFO, help="From which level on to print.")
@click.option("--list-codes", is_flag=True, help="Print all codes and what they mean, and nothing else.")
def analyze(
    paths: tuple[Path, ...],
    gateway: GatewayName | None,
    output: str,
    suppress: tuple[str, ...],
    failure_threshold: Level,
    output_threshold: Level,
    list_codes: bool,
) -> None:
    """Say what is wrong with manifests, and what is hardly meant, without running anything.

    PATH is a file, a folder, or - for standard input; later ones win. Exit status: 0 nothing as grave as the
    threshold, 1 something is, 2 wrong usage.
    """
    from waypoint.ask import commands, listing

    if list_codes:
        click.echo(listing.code_table())
        return
    if not paths:
        raise click.UsageError("give at least one PATH, or - for standard input")
    name = (gateway.namespace, gateway.name) if gateway else None
    sys.exit(
        commands.run_analyze(commands.Question(paths, name), output, suppress, failure_threshold, output_threshold)
    )


@cli.command("compile")
@click.argument("paths", metavar="PATH...", type=_MANIFESTS, nargs=-1, required=True)
@click.option("--gateway", type=_GatewayType(), help="For which waypoint; may be left out if there is only one.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--status", is_flag=True, help="Only the status that routes and the Gateway would get.")
def compile_(paths: tuple[Path, ...], gateway: GatewayName | None, output: str, status: bool) -> None:
    """Print what a waypoint would do with manifests: what /config_dump shows of a running one.

    PATH is a file, a folder, or - for standard input; later ones win.
    """
    from waypoint.ask import commands

    name = (gateway.namespace, gateway.name) if gateway else None
    commands.run_compile(commands.Question(paths, name), output, only_status=status)


@cli.command()
@click.option("--resources", type=EXISTING, multiple=True, help="Kubernetes YAML to ask: a file or folder; repeatable.")
@click.option("--gateway", type=_GatewayType(), help="Which waypoint of those in the files; else the one that serves.")
@click.option("--admin", type=AddressType(), help="Ask the running waypoint with this administration port instead.")
@click.option(
    "--from",
    "client",
    default="default/default",
    show_default=True,
    metavar="NAMESPACE/ACCOUNT",
    help="Whose workload asks: its service account.",
)
@click.option(
    "--to",
    required=True,
    metavar="HOST[:PORT]",
    help="reviews:9080, reviews.default, a whole hostname or an address.",
)
@click.option("--method", default="GET", show_default=True)
@click.option("--path", "target", default="/", show_default=True, help="With its query.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Repeatable.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def explain(
    resources: tuple[Path, ...],
    gateway: GatewayName | None,
    admin: Address | None,
    client: str,
    to: str,
    method: str,
    target: str,
    headers: tuple[str, ...],
    output: str,
) -> None:
    """Say where a request goes and why: which routes were asked, which won, why the others lost, what the winner does.

    \b
    waypoint explain --resources manifests --from default/client --to reviews:9080 --path /x?y=1 -H 'end-user: jason'
    waypoint explain --admin 127.0.0.1:15000 --to reviews:9080

    The first line is the answer. Exit status: 0 explained, whatever becomes of the request; 1 the waypoint could not be
    asked; 2 wrong usage.
    """
    from waypoint.ask.asking import run_explain
    from waypoint.ask.question import InvalidQuestion, Question

    if bool(resources) is (admin is not None):
        raise click.UsageError("give either --resources, to ask files, or --admin, to ask a running waypoint")
    name = (gateway.namespace, gateway.name) if gateway else None
    try:
        question = Question.parse(client, to, method, target, headers)
    except InvalidQuestion as error:
        raise click.UsageError(str(error)) from None
    run_explain(resources, name, admin, question, output)


@cli.command()
@click.option(
    "--recorded",
    "recordings",
    type=click.File("rb"),
    multiple=True,
    required=True,
    help="What `waypoint run --record` wrote; - is standard input; repeatable.",
)
@click.option(
    "--resources",
    type=EXISTING,
    multiple=True,
    required=True,
    help="The candidate, Kubernetes YAML: a file or folder; repeatable, later ones win.",
)
@click.option(
    "--against",
    type=EXISTING,
    multiple=True,
    help="Compare with what these files would do, instead of with what was recorded; repeatable.",
)
@click.option("--gateway", type=_GatewayType(), help="Only the waypoint of this Gateway; else all that serve.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--fail-on-change", is_flag=True, help="Exit with 1 when something would change.")
def replay(
    recordings: tuple[BinaryIO, ...],
    resources: tuple[Path, ...],
    against: tuple[Path, ...],
    gateway: GatewayName | None,
    output: str,
    fail_on_change: bool,
) -> None:
    """Decide recorded requests again under other manifests, and say for which of them something would change.

    \b
    waypoint run … --record heads.jsonl
    waypoint replay --recorded heads.jsonl --resources new
    waypoint replay --recorded heads.jsonl --resources new --against old --fail-on-change

    What was recorded is the route's name and where the request went; --against shows changes of shares, edits and
    limits, too. Nothing is sent anywhere. Exit status: 0 done; 1 something would change and --fail-on-change was given,
    or no line could be read; 2 wrong usage.
    """
    from waypoint.ask.asking import run_replay

    name = (gateway.namespace, gateway.name) if gateway else None
    sys.exit(run_replay(recordings, resources, against, name, output, fails_on_change=fail_on_change))


def main() -> None:
    cli(prog_name="waypoint")


if __name__ == "__main__":
    main()
