from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from l4.command_line import (
    CA_ROOT,
    CA_TOKEN,
    Address,
    AddressType,
    authority,
    certificates_from,
    discovery,
    discovery_from,
    operator_ports,
    source,
    source_from,
    version,
)
from l4.identity.options import AuthorityOptions
from l4.kubernetes.options import KubernetesOptions
from l4.xds.options import DiscoveryOptions


@click.command(name="program")
@version
@operator_ports
@click.option("--at", type=AddressType(), default="127.0.0.1:1")
def program(at: Address, admin: Address, readiness: Address, metrics: Address) -> None:
    click.echo(f"{at} {admin} {readiness} {metrics}")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:15008", ("127.0.0.1", 15008)),
        ("[::1]:15008", ("::1", 15008)),
        ("localhost:0", ("localhost", 0)),
        ("::1:80", ("::1", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address) -> None:
    result = CliRunner().invoke(program, ["--at", text])

    assert result.output.startswith(f"{address} ")


@pytest.mark.parametrize(
    "text", ["15008", ":15008", "https://istiod:15012", "localhost:", "localhost:65536", "localhost:-1", "localhost:٨"]
)
def test_any_other_text_is_refused_with_an_example(text: str) -> None:
    result = CliRunner().invoke(program, ["--at", text])

    assert result.exit_code == 2
    assert "ADDRESS:PORT" in result.output


def test_operator_ports_are_those_of_istio() -> None:
    result = CliRunner().invoke(program, [])

    assert "('127.0.0.1', 15000) ('0.0.0.0', 15021) ('0.0.0.0', 15020)" in result.output


def test_the_version_is_printed_before_anything_else_is_looked_at() -> None:
    result = CliRunner().invoke(program, ["--at", "nonsense", "--version"], prog_name="program")

    assert result.exit_code == 0
    assert result.output.startswith("program ")


@click.command(name="certified")
@authority
@click.option("--chain", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path))
@click.option("--roots", type=click.Path(path_type=Path))
def certified(
    chain: Path | None,
    key: Path | None,
    roots: Path | None,
    ca_address: Address | None,
    ca_root: Path | None,
    ca_token: Path | None,
    cluster_id: str | None,
) -> None:
    files = {"--chain": chain, "--key": key, "--roots": roots}
    click.echo(repr(certificates_from(files, ca_address, ca_root, ca_token, cluster_id)))


ISTIO = Path("/var/run/secrets")


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("--chain a --key b --roots c", None),
        (
            "--ca-address istiod.istio-system.svc:15012",
            AuthorityOptions(
                "istiod.istio-system.svc:15012", ISTIO / "istio/root-cert.pem", ISTIO / "tokens/istio-token", ""
            ),
        ),
        (
            "--ca-address [::1]:15012 --ca-root r --ca-token t --cluster-id east",
            AuthorityOptions("[::1]:15012", Path("r"), Path("t"), "east"),
        ),
    ],
)
def test_certificates_come_from_files_or_from_an_authority(flags: str, options: AuthorityOptions | None) -> None:
    result = CliRunner().invoke(certified, flags.split())

    assert result.output == f"{options!r}\n"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("", "no certificates: give --chain, --key and --roots for files, or --ca-address for an authority"),
        ("--ca-root r", "no certificates: give --chain, --key and --roots for files, or --ca-address for an authority"),
        ("--chain a --roots c", "--key missing: give --chain, --key and --roots for files, or --ca-address"),
        ("--chain a", "--key and --roots missing: give --chain, --key and --roots for files, or --ca-address"),
        (
            "--ca-address a:1 --key b",
            "--key and --ca-address exclude each other: certificates come from files (--chain",
        ),
        ("--chain a --key b --roots c --ca-address a:1", "--chain and --ca-address exclude each other"),
        (
            "--chain a --key b --roots c --ca-token t",
            "--ca-token is for an authority, but certificates come from files",
        ),
        ("--chain a --key b --roots c --cluster-id t", "--cluster-id is for an authority, but certificates come from"),
    ],
)
def test_neither_both_nor_half_of_the_ways_to_certificates_is_wrong_usage(flags: str, sentence: str) -> None:
    result = CliRunner().invoke(certified, flags.split(), terminal_width=1000)

    assert result.exit_code == 2
    assert sentence in result.output


@click.command(name="configured")
@source
def configured(resources: tuple[Path, ...], kubernetes: bool, kubeconfig: Path | None, context: str) -> None:
    click.echo(repr(source_from(resources, kubernetes, kubeconfig, context)))


def test_objects_come_from_files_or_from_an_api_server(tmp_path: Path) -> None:
    def given(*args: str) -> str:
        return CliRunner().invoke(configured, args).output.strip()

    path = str(tmp_path)

    assert given("--resources", path, "--resources", "/") == repr((tmp_path, Path("/")))
    assert given("--kubernetes") == repr(KubernetesOptions())
    assert given("--kubeconfig", path) == repr(KubernetesOptions(tmp_path))
    assert given("--context", "lab") == repr(KubernetesOptions(None, "lab"))
    for wrong in ((), ("--resources", path, "--kubernetes"), ("--resources", path, "--context", "lab")):
        assert "use either --resources for files or --kubernetes for an API server" in given(*wrong)


@click.command(name="discovering")
@discovery("Who tells what is in the mesh.")
def discovering(discovery: tuple[str, int] | None, discovery_root: Path | None, discovery_token: Path | None) -> None:
    click.echo(repr(discovery_from(discovery, discovery_root, discovery_token)))


def test_a_discovery_server_has_roots_and_a_token() -> None:
    def given(flags: str) -> str:
        return CliRunner().invoke(discovering, flags.split()).output.strip()

    assert given("") == "None"
    assert given("--discovery istiod:15012") == repr(DiscoveryOptions("istiod:15012", CA_ROOT, CA_TOKEN))
    own = given("--discovery [::1]:15012 --discovery-root r --discovery-token t")
    assert own == repr(DiscoveryOptions("[::1]:15012", Path("r"), Path("t")))
    assert "--discovery-root is for a discovery server: give --discovery" in given("--discovery-root r")
    assert "--discovery-token is for a discovery server: give --discovery" in given("--discovery-token t")
