"""`waypoint certificate`: make certificates for laptops and tests."""

from pathlib import Path

import click

from waypoint.commands.parameters import FOLDER


@click.group()
def certificate() -> None:
    """Certificates for a mesh without an authority of its own: laptops and tests.

    \b
    waypoint certificate root certificates
    waypoint certificate workload certificates default/waypoint default/bookinfo-reviews

    Whoever can read the folder can be anybody in the mesh.
    """


@certificate.command("root")
@click.argument("folder", type=FOLDER)
@click.option("--days", type=click.IntRange(1, 36500), default=3650, show_default=True, help="How long it is good for.")
@click.option(
    "--force", is_flag=True, help="In place of one that is there: what that one signed is then worth nothing."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def certificate_root(folder: Path, days: int, force: bool, output: str) -> None:
    """Make a development root: FOLDER/root.pem, which is the trust bundle, and FOLDER/root.key.

    Exit status: 0 made, 1 there is one already or the folder can't be written, 2 wrong usage.
    """
    from waypoint.commands import issuing

    try:
        made = [issuing.make_root(folder, days, replaces=force)]
    except issuing.CannotMake as error:
        raise click.ClickException(str(error)) from None
    click.echo(issuing.as_json(made) if output == "json" else issuing.as_text(made))


@certificate.command("workload")
@click.argument("folder", type=FOLDER)
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
    from waypoint.commands import issuing

    try:
        identities = [issuing.identity(trust_domain, account) for account in accounts]
        made = issuing.make_workloads(folder, identities, hours, replaces=force)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except issuing.CannotMake as error:
        raise click.ClickException(str(error)) from None
    click.echo(issuing.as_json(made) if output == "json" else issuing.as_text(made))
