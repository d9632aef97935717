import pytest

from policies.attributes import Identity, Peer, RequestHead
from policies.header_format import HeaderFormat, Situation
from policies.rewrite import FormattedHeader, HeaderEdit

CLIENT = Peer(Identity("cluster.local", "default", "client"), "10.0.0.9", 4711)
HEAD = RequestHead(b"GET", b"app:9080", b"/a", b"b=c", [(b"x-a", b"1")], has_query=True)


def filled(text: str, peer: Peer = CLIENT) -> bytes:
    value = HeaderFormat.parse(text)
    return value.fill(Situation(peer, "10.96.0.1", 9080, HEAD)) if isinstance(value, HeaderFormat) else value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("100%", b"100%"),
        ("100%%", b"100%"),
        ("a%20b", b"a%20b"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", b"10.0.0.9:4711"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", b"10.0.0.9"),
        ("%DOWNSTREAM_REMOTE_PORT%", b"4711"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", b"10.96.0.1:9080"),
        ("%DOWNSTREAM_PEER_URI_SAN%", b"spiffe://cluster.local/ns/default/sa/client"),
        ("from %DOWNSTREAM_REMOTE_PORT%, to %DOWNSTREAM_LOCAL_PORT%", b"from 4711, to 9080"),
        ("%REQ(X-A)%/%REQ(:path)%/%REQ(:authority)%/%REQ(:method)%/%REQ(x-none)%", b"1//a?b=c/app:9080/GET/-"),
    ],
)
def test_a_value_tells_of_the_request(text: str, value: bytes) -> None:
    assert filled(text) == value


def test_an_address_of_ipv6_stands_in_brackets_and_who_is_unknown_is_a_dash() -> None:
    stranger = Peer(None, "fd00::1", 1)

    assert filled("%DOWNSTREAM_REMOTE_ADDRESS%", stranger) == b"[fd00::1]:1"
    assert filled("%DOWNSTREAM_PEER_URI_SAN%", stranger) == b"-"


@pytest.mark.parametrize("text", ["%UPSTREAM_HOST%", "%REQ()%", "%REQ%", "%DOWNSTREAM_REMOTE_PORT(1)%", "%A%\r\nx: 1"])
def test_what_is_not_carried_out_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        HeaderFormat.parse(text)


def test_an_edit_is_filled_for_each_request() -> None:
    port = HeaderFormat.parse("%DOWNSTREAM_REMOTE_PORT%")
    assert isinstance(port, HeaderFormat)
    edit = HeaderEdit(formatted=(FormattedHeader(b"x-a", port), FormattedHeader(b"x-b", port, is_added=True)))

    made = edit.filled(Situation(CLIENT, "10.96.0.1", 9080, HEAD))

    assert made.apply([(b"x-a", b"1"), (b"x-b", b"2")]) == [(b"x-b", b"2"), (b"x-a", b"4711"), (b"x-b", b"4711")]
