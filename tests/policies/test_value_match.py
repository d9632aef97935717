"""Value lists of AuthorizationPolicy fields, one by one; whole policies: test_authorization."""

import ipaddress

import pytest

from policies.value_match import Hosts, Networks, Paths, Ports, Texts, address_of


@pytest.mark.parametrize(
    ("text", "accepted", "refused"),
    [
        ("admin", b"admin", b"admin2"),
        ("adm*", b"adm", b"ad"),
        ("*min", b"admin", b"mini"),
        ("*", b"x", b""),
        ("", b"", b"x"),
    ],
)
def test_a_text_is_exact_or_a_prefix_or_a_suffix_or_anything_but_empty(
    text: str, accepted: bytes, refused: bytes
) -> None:
    texts = Texts((text,))

    assert texts.accepts(accepted)
    assert not texts.accepts(refused)


def test_a_missing_value_matches_no_list() -> None:
    assert not Texts(("*", "")).accepts(None)


def test_one_matching_text_of_several_is_enough() -> None:
    assert Texts(("a", "b*", "*c")).accepts(b"xc")


def test_paths_are_written_like_the_paths_of_requests() -> None:
    paths = Paths(("/a/../b", "/c//d*", "/reviews/{*}/stars"))

    assert paths.accepts(b"/b")
    assert paths.accepts(b"/reviews/7/stars")
    assert not paths.accepts(b"/reviews/7/8/stars")


def test_a_host_matches_in_any_case_and_with_any_port_unless_it_names_one() -> None:
    anywhere, on_port = Hosts(("Reviews.example",)), Hosts(("reviews.example:8080",))

    assert [it.accepts(b"reviews.example:9080") for it in (anywhere, on_port)] == [True, False]
    assert [it.accepts(b"reviews.example") for it in (anywhere, on_port)] == [True, False]
    assert on_port.accepts(b"reviews.example:8080")


def test_an_ipv4_address_inside_ipv6_is_the_ipv4_address() -> None:
    networks = Networks((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")))

    accepted = [networks.accepts(it) for it in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "11.0.0.1", "nonsense")]

    assert accepted == [True, True, True, False, False]
    assert address_of("::ffff:10.1.2.3") == ipaddress.ip_address("10.1.2.3")


def test_ports_are_the_listed_ones() -> None:
    assert [Ports((80, 443)).accepts(it) for it in (80, 443, 8080)] == [True, True, False]
