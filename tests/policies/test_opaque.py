import pytest

from policies.opaque import OpaqueTable, SniRoute
from policies.route import Rule

TABLE = OpaqueTable(
    [
        SniRoute("api.example.com", Rule("api", ())),
        SniRoute("api.example.com", Rule("younger", ())),
        SniRoute("*.example.com", Rule("wild", ())),
        SniRoute("*.deep.example.com", Rule("deep", ())),
    ],
    Rule("tcp", ()),
)


@pytest.mark.parametrize(
    ("server_name", "rule"),
    [
        ("api.example.com", "api"),
        ("API.Example.com", "api"),
        ("api.example.com.", "api"),
        ("www.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("x.deep.example.com", "deep"),
        ("deep.example.com", "wild"),
        ("example.com", "tcp"),
        ("example.org", "tcp"),
        ("", "tcp"),
    ],
)
def test_the_most_specific_name_wins_and_the_rest_is_tcp(server_name: str, rule: str) -> None:
    found = TABLE.find(server_name)

    assert found is not None
    assert found.name == rule


def test_a_route_without_hostname_takes_every_name() -> None:
    table = OpaqueTable([SniRoute("", Rule("any", ()))], Rule("tcp", ()))

    assert [it.name for name in ("", "a.b") if (it := table.find(name))] == ["any", "any"]
    assert not table.needs_server_name


def test_without_a_rule_nothing_is_found() -> None:
    assert OpaqueTable([SniRoute("a.b", Rule("a", ()))]).find("c.d") is None
    assert OpaqueTable().find("") is None
