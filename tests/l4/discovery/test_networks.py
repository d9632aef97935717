import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from l4.discovery.networks import Networks


def test_the_longest_prefix_wins_and_of_equals_the_first() -> None:
    networks = Networks([("10.0.0.0/8", "wide"), ("10.1.0.0/16", "narrow"), ("10.1.2.3/16", "late"), ("::/0", "six")])

    assert [networks.find(ip) for ip in ("10.2.0.1", "10.1.9.9", "fd00::1", "11.0.0.1")] == [
        "wide",
        "narrow",
        "six",
        None,
    ]


def test_what_is_no_address_is_in_no_network() -> None:
    assert Networks([("0.0.0.0/0", True)]).find("example.com") is None
    assert not Networks()


@given(st.lists(st.ip_addresses(network="10.0.0.0/8").flatmap(lambda ip: st.tuples(st.just(ip), st.integers(8, 32)))))
def test_it_finds_what_a_search_through_all_finds(pairs: list[tuple[ipaddress.IPv4Address, int]]) -> None:
    networks = [ipaddress.ip_network((ip, length), strict=False) for ip, length in pairs]
    table = Networks((str(it), it) for it in networks)

    for ip, _ in pairs:
        longest = max((it for it in networks if ip in it), key=lambda it: it.prefixlen)
        assert table.find(str(ip)) == longest
