import click
import pytest
from click.testing import CliRunner

from l4.command_line import Address, AddressType, operator_ports, version


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


@pytest.mark.parametrize("text", ["15008", ":15008", "localhost:", "localhost:65536", "localhost:-1", "localhost:٨"])
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
