"""Create a development root, and workload certificates signed by it, in one folder.

This is for laptops and tests: everyone who can read the folder can use any identity in the mesh. Existing files are
replaced only on request.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from l4.identity.authority import AuthorityError, DevelopmentAuthority
from policies.attributes import Identity


class CannotMake(Exception):
    """No certificate can be created. The message gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Made:
    """`identity` is empty for a root, which is its own `trust_bundle`."""

    identity: str
    certificate: str
    private_key: str
    trust_bundle: str
    not_after: str


def identity(trust_domain: str, account: str) -> Identity:
    """Return the identity of `NAMESPACE/SERVICEACCOUNT`. Raises ValueError."""
    namespace, slash, name = account.partition("/")
    if not slash:
        raise ValueError(f"{account!r} is not of the form NAMESPACE/SERVICEACCOUNT")
    return Identity.parse(f"spiffe://{trust_domain}/ns/{namespace}/sa/{name}")


def make_root(folder: Path, days: int, *, replaces: bool) -> Made:
    """Raises CannotMake."""
    existing = [path for path in DevelopmentAuthority.paths(folder) if path.exists()]
    if existing and not replaces:
        raise CannotMake(
            f"{existing[0]} already exists; --force replaces it by a new root, which makes every certificate that "
            "the old root signed invalid"
        )
    try:
        DevelopmentAuthority.make_root(folder, timedelta(days=days))
    except OSError as error:
        raise CannotMake(f"{folder} cannot be written: {error.strerror or error}") from None
    path, key = DevelopmentAuthority.paths(folder)
    return Made("", str(path), str(key), str(path), _end(path))


def make_workloads(folder: Path, identities: Iterable[Identity], hours: int, *, replaces: bool) -> list[Made]:
    """Create all certificates or none. Raises CannotMake."""
    bundle, _ = DevelopmentAuthority.paths(folder)
    if not bundle.exists():
        raise CannotMake(f"{bundle} does not exist; create a root first: waypoint certificate root {folder}")
    wanted = dict.fromkeys(identities)
    if not replaces:
        for path in (path for it in wanted for path in DevelopmentAuthority.pair(it, folder)):
            if path.exists():
                raise CannotMake(f"{path} already exists; --force replaces it")
    try:
        authority = DevelopmentAuthority(folder, hours * 3600)
        _check_life(authority, hours)
        return [_made(authority, it, folder) for it in wanted]
    except AuthorityError as error:
        raise CannotMake(str(error)) from None
    except OSError as error:
        raise CannotMake(f"{folder} cannot be written: {error.strerror or error}") from None


def as_text(made: Iterable[Made]) -> str:
    """List what was created, and the next steps."""
    made = list(made)
    lines = [
        f"{it.certificate} (and {Path(it.private_key).name}): {it.identity or 'development root'}, until {it.not_after}"
        for it in made
    ]
    first = made[0]
    if not first.identity:
        lines += ["next: create certificates of workloads, by service account", f"  {_issuing(first)} default/waypoint"]
    else:
        files = f"--certificate {first.certificate} --private-key {first.private_key}"
        lines += [
            "next: run a waypoint as this workload",
            f"  waypoint run {files} --trust-bundle {first.trust_bundle} --gateway NAMESPACE/NAME --resources PATH",
            "or run a ztunnel, which finds the certificates of its node's workloads in the folder by name",
            f"  ztunnel run --certificates {Path(first.certificate).parent} --trust-bundle {first.trust_bundle} "
            "--node NAME --resources PATH",
            "Running programs reload certificates: create a new one with --force before it expires.",
        ]
    return "\n".join(lines)


def values(made: Iterable[Made]) -> list[dict[str, str]]:
    return [asdict(it) for it in made]


def _issuing(root: Made) -> str:
    return f"waypoint certificate workload {Path(root.certificate).parent}"


def _made(authority: DevelopmentAuthority, of: Identity, folder: Path) -> Made:
    path = authority.write(of, folder)
    return Made(str(of), str(path), str(path.with_suffix(".key")), str(authority.bundle_path), _end(path))


def _check_life(authority: DevelopmentAuthority, hours: int) -> None:
    ends = x509.load_pem_x509_certificate(authority.bundle_path.read_bytes()).not_valid_after_utc
    if datetime.now(UTC) + timedelta(hours=hours) > ends:
        sentence = (
            f"{authority.bundle_path} expires earlier, at {_shown(ends)}; use a shorter validity, or create a new root"
        )
        raise CannotMake(sentence)


def _end(path: Path) -> str:
    return _shown(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
