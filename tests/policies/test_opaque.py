import pytest

from policies.opaque import OpaqueRoute, OpaqueTable
from policies.route import Rule

TABLE = OpaqueTable(
    [
        OpaqueRoute("api.example.com", Rule("api", ())),
        OpaqueRoute("api.example.com", Rule("younger", ())),
        OpaqueRoute("*.example.com", Rule("wild", ())),
        OpaqueRoute("*.deep.example.com", Rule("deep", ())),
        OpaqueRoute("", Rule("tcp", ())),
        OpaqueRoute("", Rule("younger", ())),
    ]
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
    table = OpaqueTable([OpaqueRoute("", Rule("any", ()))])

    assert [it.name for name in ("", "a.b") if (it := table.find(name))] == ["any", "any"]
    assert not table.needs_server_name


def test_without_a_rule_nothing_is_found() -> None:
    assert OpaqueTable([OpaqueRoute("a.b", Rule("a", ()))]).find("c.d") is None
    assert OpaqueTable().find("") is None
