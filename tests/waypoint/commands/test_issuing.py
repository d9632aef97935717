"""`waypoint certificate`: what it makes, what it never replaces, and that the programs take it."""

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography import x509

from l4.identity.files import FileStore, FolderStore
from policies.attributes import Identity
from waypoint.cli import cli

WAYPOINT = Identity("cluster.local", "default", "waypoint")
REVIEWS = Identity("cluster.local", "default", "bookinfo-reviews")


def certificate(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["certificate", *map(str, args)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert certificate("root", tmp_path / "pki").exit_code == 0
    return tmp_path / "pki"


def end(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def test_both_programs_find_what_is_made(folder: Path) -> None:
    made = certificate("workload", folder, "default/waypoint", "default/bookinfo-reviews")

    assert made.exit_code == 0
    store = FileStore(folder / "default.waypoint.pem", folder / "default.waypoint.key", folder / "root.pem")
    store.load()
    assert store.current.identity == WAYPOINT
    assert FolderStore(folder, folder / "root.pem").get(REVIEWS).identity == REVIEWS


def test_keys_are_their_owners_alone(folder: Path) -> None:
    certificate("workload", folder, "default/waypoint")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["root.key"] == modes["default.waypoint.key"] == 0o600
    assert set(modes) == {"root.key", "root.pem", "default.waypoint.key", "default.waypoint.pem"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_says_what_to_do_next(tmp_path: Path) -> None:
    root = certificate("root", tmp_path)
    workload = certificate("workload", tmp_path, "default/waypoint")

    assert f"waypoint certificate workload {tmp_path} default/waypoint" in root.stdout
    assert f"waypoint run --certificate {tmp_path}/default.waypoint.pem" in workload.stdout
    assert f"ztunnel run --certificates {tmp_path}" in workload.stdout


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_read_the_names_of_the_files(folder: Path, form: str, read: Callable[[str], Any]) -> None:
    [made] = read(certificate("workload", folder, "default/waypoint", "-o", form).stdout)

    assert made["identity"] == str(WAYPOINT)
    assert made["trust_bundle"] == str(folder / "root.pem")
    assert {Path(made[name]).exists() for name in ("certificate", "private_key")} == {True}
    assert made["not_after"] == end(folder / "default.waypoint.pem").strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("name", ["root.pem", "root.key"])
def test_a_root_that_is_there_stays_unless_that_is_asked_for(folder: Path, name: str) -> None:
    other = ({"root.pem", "root.key"} - {name}).pop()
    (folder / other).unlink()
    before = (folder / name).read_bytes()

    refused = certificate("root", folder)

    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert (folder / name).read_bytes() == before
    assert not (folder / other).exists()
    assert certificate("root", folder, "--force").exit_code == 0
    assert (folder / name).read_bytes() != before


def test_a_workloads_certificate_that_is_there_stays_and_none_is_made(folder: Path) -> None:
    certificate("workload", folder, "default/waypoint")
    before = (folder / "default.waypoint.pem").read_bytes()

    refused = certificate("workload", folder, "default/other", "default/waypoint")

    assert refused.exit_code == 1
    assert "default.waypoint.pem already exists; --force" in refused.stderr
    assert (folder / "default.waypoint.pem").read_bytes() == before
    assert not (folder / "default.other.pem").exists()
    assert certificate("workload", folder, "default/waypoint", "--force").exit_code == 0
    assert (folder / "default.waypoint.pem").read_bytes() != before


def test_without_a_root_there_is_no_certificate(tmp_path: Path) -> None:
    refused = certificate("workload", tmp_path, "default/waypoint")

    assert refused.exit_code == 1
    assert f"waypoint certificate root {tmp_path}" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_root_without_its_key_is_not_replaced_by_itself(folder: Path) -> None:
    before = (folder / "root.pem").read_bytes()
    (folder / "root.key").unlink()

    refused = certificate("workload", folder, "default/waypoint")

    assert refused.exit_code == 1
    assert (folder / "root.pem").read_bytes() == before


@pytest.mark.parametrize("account", ["waypoint", "default/", "/waypoint", "../a/b", "default/..", "a/b/c", "a b/c"])
def test_what_is_no_service_account_is_refused(folder: Path, account: str) -> None:
    before = set(folder.parent.rglob("*"))

    assert certificate("workload", folder, account).exit_code == 2
    assert set(folder.parent.rglob("*")) == before


def test_it_is_good_for_as_long_as_is_asked(folder: Path) -> None:
    certificate("workload", folder, "default/waypoint", "--hours", "2")

    left = end(folder / "default.waypoint.pem") - datetime.now(UTC)
    assert timedelta(hours=1, minutes=50) < left <= timedelta(hours=2)


def test_none_outlives_its_root(tmp_path: Path) -> None:
    certificate("root", tmp_path, "--days", "1")

    refused = certificate("workload", tmp_path, "default/waypoint", "--hours", "48")

    assert refused.exit_code == 1
    assert "expires earlier" in refused.stderr


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refused = certificate("root", tmp_path / "file" / "pki")

    assert refused.exit_code == 1
    assert "cannot be written" in refused.stderr


def test_another_trust_domain_is_named(folder: Path) -> None:
    made = certificate("workload", folder, "default/waypoint", "--trust-domain", "example.com")

    assert "spiffe://example.com/ns/default/sa/waypoint" in made.stdout
