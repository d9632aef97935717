"""`waypoint certificate`: a development root, and certificates of workloads that it signs, in one folder.

It is for laptops and tests: whoever can read the folder can be anybody in the mesh. Nothing that is there is replaced
unless that is asked for.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from l4.identity.authority import AuthorityError, DevelopmentAuthority
from policies.attributes import Identity


class CannotMake(Exception):
    """Why no certificate is made, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Made:
    """`identity` is empty for a root, which is its own `trust_bundle`."""

    identity: str
    certificate: str
    private_key: str
    trust_bundle: str
    not_after: str


def identity(trust_domain: str, account: str) -> Identity:
    """Of a service account as people write it. Raises ValueError."""
    namespace, slash, name = account.partition("/")
    if not slash:
        raise ValueError(f"{account!r} is not of the form NAMESPACE/SERVICEACCOUNT")
    return Identity.parse(f"spiffe://{trust_domain}/ns/{namespace}/sa/{name}")


def make_root(folder: Path, days: int, *, replaces: bool) -> Made:
    """Raises CannotMake."""
    existing = [path for path in DevelopmentAuthority.paths(folder) if path.exists()]
    if existing and not replaces:
        raise CannotMake(
            f"{existing[0]} is there already; --force makes a new root in its place, and then every certificate that "
            "the old one signed is worth nothing"
        )
    try:
        DevelopmentAuthority.make_root(folder, timedelta(days=days))
    except OSError as error:
        raise CannotMake(f"{folder} can't be written: {error.strerror or error}") from None
    path, key = DevelopmentAuthority.paths(folder)
    return Made("", str(path), str(key), str(path), _end(path))


def make_workloads(folder: Path, identities: Iterable[Identity], hours: int, *, replaces: bool) -> list[Made]:
    """All of them, or none. Raises CannotMake."""
    bundle, _ = DevelopmentAuthority.paths(folder)
    if not bundle.exists():
        raise CannotMake(f"{bundle} is not there; make a root first: waypoint certificate root {folder}")
    wanted = dict.fromkeys(identities)
    if not replaces:
        for path in (path for it in wanted for path in DevelopmentAuthority.pair(it, folder)):
            if path.exists():
                raise CannotMake(f"{path} is there already; --force makes a new one in its place")
    try:
        authority = DevelopmentAuthority(folder, hours * 3600)
        _check_life(authority, hours)
        return [_made(authority, it, folder) for it in wanted]
    except AuthorityError as error:
        raise CannotMake(str(error)) from None
    except OSError as error:
        raise CannotMake(f"{folder} can't be written: {error.strerror or error}") from None


def as_text(made: Iterable[Made]) -> str:
    """What was made, and what to do next."""
    made = list(made)
    lines = [
        f"{it.certificate} (and {Path(it.private_key).name}): {it.identity or 'development root'}, until {it.not_after}"
        for it in made
    ]
    first = made[0]
    if not first.identity:
        lines += ["next: certificates of workloads, by service account", f"  {_issuing(first)} default/waypoint"]
    else:
        files = f"--certificate {first.certificate} --private-key {first.private_key}"
        lines += [
            "next: a waypoint that is this workload",
            f"  waypoint run {files} --trust-bundle {first.trust_bundle} --gateway NAMESPACE/NAME --resources PATH",
            "or a ztunnel, which finds the certificates of its node's workloads in the folder by their names",
            f"  ztunnel run --certificates {Path(first.certificate).parent} --trust-bundle {first.trust_bundle} "
            "--node NAME --resources PATH",
            "Programs that run take a new certificate by themselves: make it again, with --force, before it ends.",
        ]
    return "\n".join(lines)


def as_json(made: Iterable[Made]) -> str:
    return json.dumps([asdict(it) for it in made], indent=2)


def _issuing(root: Made) -> str:
    return f"waypoint certificate workload {Path(root.certificate).parent}"


def _made(authority: DevelopmentAuthority, of: Identity, folder: Path) -> Made:
    path = authority.write(of, folder)
    return Made(str(of), str(path), str(path.with_suffix(".key")), str(authority.bundle_path), _end(path))


def _check_life(authority: DevelopmentAuthority, hours: int) -> None:
    ends = x509.load_pem_x509_certificate(authority.bundle_path.read_bytes()).not_valid_after_utc
    if datetime.now(UTC) + timedelta(hours=hours) > ends:
        sentence = f"{authority.bundle_path} ends before that, at {_shown(ends)}; ask for less, or make a new root"
        raise CannotMake(sentence)


def _end(path: Path) -> str:
    return _shown(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
