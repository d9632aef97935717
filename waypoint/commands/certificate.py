"""`waypoint certificate`: create certificates for laptops and tests."""

from pathlib import Path

import click

from l4.asking.options import output
from l4.asking.output import written
from waypoint.commands.parameters import FOLDER


@click.group()
def certificate() -> None:
    """Create certificates for a mesh without its own authority, on laptops and in tests.

    \b
    waypoint certificate root certificates
    waypoint certificate workload certificates default/waypoint default/bookinfo-reviews

    Everyone who can read the folder can use any identity in the mesh.
    """


@certificate.command("root")
@click.argument("folder", type=FOLDER)
@click.option("--days", type=click.IntRange(1, 36500), default=3650, show_default=True, help="Validity in days.")
@click.option("--force", is_flag=True, help="Replace an existing root. Certificates that it signed become invalid.")
@output
def certificate_root(folder: Path, days: int, force: bool, output: str) -> None:
    """Create a development root: FOLDER/root.pem, which is the trust bundle, and FOLDER/root.key.

    Exit status: 0 created, 1 a root already exists or the folder is not writable, 2 wrong usage.
    """
    from waypoint.commands import issuing

    try:
        made = [issuing.make_root(folder, days, replaces=force)]
    except issuing.CannotMake as error:
        raise click.ClickException(str(error)) from None
    click.echo(issuing.as_text(made) if output == "table" else written(issuing.values(made), output))


@certificate.command("workload")
@click.argument("folder", type=FOLDER)
@click.argument("accounts", metavar="NAMESPACE/SERVICEACCOUNT...", nargs=-1, required=True)
@click.option("--trust-domain", default="cluster.local", envvar="TRUST_DOMAIN", show_envvar=True, show_default=True)
@click.option("--hours", type=click.IntRange(1, 876000), default=24, show_default=True, help="Validity in hours.")
@click.option("--force", is_flag=True, help="Replace existing certificates, for example to renew them.")
@output
def certificate_workload(
    folder: Path, accounts: tuple[str, ...], trust_domain: str, hours: int, force: bool, output: str
) -> None:
    """Create certificates signed by the root in FOLDER: NAMESPACE.SERVICEACCOUNT.pem and .key for each account.

    Exit status: 0 all were created, 1 none was, 2 wrong usage.
    """
    from waypoint.commands import issuing

    try:
        identities = [issuing.identity(trust_domain, account) for account in accounts]
        made = issuing.make_workloads(folder, identities, hours, replaces=force)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except issuing.CannotMake as error:
        raise click.ClickException(str(error)) from None
    click.echo(issuing.as_text(made) if output == "table" else written(issuing.values(made), output))
