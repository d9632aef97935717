import pytest

from l4.hbone.connect import Authority, ConnectRequest, InvalidConnect
from policies.attributes import Headers

CONNECT: Headers = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")]


@pytest.mark.parametrize(
    ("text", "authority", "is_ip"),
    [
        (b"10.0.0.1:80", Authority("10.0.0.1", 80), True),
        (b"[fd00::1]:65535", Authority("fd00::1", 65535), True),
        (b"[::ffff:10.0.0.1]:80", Authority("10.0.0.1", 80), True),
        (b"Reviews.Default.svc:9080", Authority("reviews.default.svc", 9080), False),
    ],
)
def test_an_authority_is_an_address_or_a_hostname_with_a_port(text: bytes, authority: Authority, is_ip: bool) -> None:
    parsed = Authority.parse(text)

    assert parsed == authority
    assert parsed.is_ip is is_ip
    assert Authority.parse(str(parsed).encode()) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"10.0.0.1", b":80", b"10.0.0.1:", b"10.0.0.1:0", b"10.0.0.1:65536", b"10.0.0.1:+80"),
        *(b"10.0.0.1:8000000080", b"[10.0.0.1]:80", b"fd00::1:80:x", b"a b:80", b"a/b:80", b"user@a:80", b"\xff:80"),
        "10.0.0.1:٨".encode(),
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidConnect):
        Authority.parse(text)


def test_a_head_is_read_as_it_was_written() -> None:
    request = ConnectRequest(Authority("10.0.0.1", 80), b"k8s.namespace.name=default", b"for=10.0.0.9", b"00-1-2-01")

    assert ConnectRequest.from_headers(request.headers()) == request


def test_what_is_absent_is_not_written() -> None:
    assert ConnectRequest(Authority("10.0.0.1", 80)).headers() == CONNECT


def test_several_lines_of_baggage_are_one_list() -> None:
    request = ConnectRequest.from_headers([*CONNECT, (b"baggage", b"a=1"), (b"baggage", b"b=2")])

    assert request.baggage == b"a=1,b=2"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([(b":method", b"GET"), (b":authority", b"10.0.0.1:80")], id="another method"),
        pytest.param([*CONNECT, (b":path", b"/")], id="a path"),
        pytest.param([(b":method", b"CONNECT"), (b":protocol", b"x")], id="no authority"),
    ],
)
def test_a_head_that_opens_no_tunnel_is_refused(headers: Headers) -> None:
    with pytest.raises(InvalidConnect):
        ConnectRequest.from_headers(headers)


def test_a_head_that_could_not_be_written_safely_is_not() -> None:
    with pytest.raises(InvalidConnect):
        ConnectRequest(Authority("10.0.0.1", 80), baggage=b"a\r\nb: c").headers()
