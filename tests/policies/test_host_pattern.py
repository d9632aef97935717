import pytest

from policies.host_pattern import HostPattern


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        (b"a.example.com", "a.example.com"),
        (b"A.Example.COM:443", "a.example.com"),
        (b"a.b.example.com.", "a.b.example.com"),
        (b"_x.a-b.example.com", "_x.a-b.example.com"),
        (b"example.com", None),
        (b".example.com", None),
        (b"a..example.com", None),
        (b"aexample.com", None),
        (b"a.example.com.evil.org", None),
        (b"a.example.org", None),
        (b"evil.org#.example.com", None),
        (b"evil.org/.example.com", None),
        (b"user@a.example.com", None),
        (b"a b.example.com", None),
        (b"a\x00.example.com", None),
        (b"-a.example.com", None),
        (b"*.example.com", None),
        (b"\xc3\xa9.example.com", None),
        (b"a" * 64 + b".example.com", None),
        (b"a." * 125 + b"example.com", None),
        (b"", None),
        (b"a.example.com\n", None),
    ],
)
def test_a_wildcard_takes_plain_names_below_it(authority: bytes, name: str | None) -> None:
    assert HostPattern("*.example.com").name_of(authority) == name


def test_one_name_takes_itself() -> None:
    pattern = HostPattern("api.example.com")

    assert pattern.name_of(b"API.example.com:80") == "api.example.com"
    assert pattern.name_of(b"a.api.example.com") is None


@pytest.mark.parametrize("address", [b"10.0.0.1", b"[::1]", b"1.2.3", b"127.1"])
def test_an_address_never_passes_for_a_name(address: bytes) -> None:
    assert HostPattern("*." + address.decode().rpartition(".")[2]).name_of(address) is None
