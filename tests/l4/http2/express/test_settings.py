import pytest

from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.express.output import Output
from l4.http2.express.settings import PeerSettings, own_settings
from l4.http2.express.streams import Streams
from l4.http2.flood import FloodGuard
from l4.http2.flood_limits import FloodLimits


def peer_of(*, is_client: bool = False) -> tuple[PeerSettings, Output, Streams]:
    output, streams = Output(FloodGuard(FloodLimits(), 1000, 100)), Streams(is_client)
    return PeerSettings(output, streams, is_client), output, streams


def payload(*settings: tuple[int, int]) -> bytes:
    return b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in settings)


def test_a_client_refuses_push_and_a_server_offers_extended_connect() -> None:
    limits = Limits(allow_connect_protocol=True)

    client, server = own_settings(limits, True), own_settings(limits, False)

    assert client[frames.ENABLE_PUSH] == 0
    assert frames.ENABLE_CONNECT_PROTOCOL not in client
    assert server[frames.ENABLE_CONNECT_PROTOCOL] == 1
    assert frames.ENABLE_PUSH not in server


def test_what_the_peer_says_is_followed_where_it_matters() -> None:
    peer, output, streams = peer_of()

    peer.apply(
        payload(
            (frames.MAX_CONCURRENT_STREAMS, 7),
            (frames.MAX_FRAME_SIZE, 20_000),
            (frames.INITIAL_WINDOW_SIZE, 10),
            (frames.ENABLE_CONNECT_PROTOCOL, 1),
            (0xABC, 5),
        )
    )

    assert peer.are_known
    assert (peer.max_streams, peer.allows_connect_protocol) == (7, True)
    assert output.max_frame == 20_000
    assert streams.open(2).send_window == 10


@pytest.mark.parametrize(
    ("is_client", "setting", "code"),
    [
        (False, (frames.ENABLE_PUSH, 2), ErrorCode.PROTOCOL_ERROR),
        (True, (frames.ENABLE_PUSH, 1), ErrorCode.PROTOCOL_ERROR),
        (False, (frames.MAX_FRAME_SIZE, 16_383), ErrorCode.PROTOCOL_ERROR),
        (False, (frames.MAX_FRAME_SIZE, 1 << 24), ErrorCode.PROTOCOL_ERROR),
        (False, (frames.INITIAL_WINDOW_SIZE, 1 << 31), ErrorCode.FLOW_CONTROL_ERROR),
        (True, (frames.ENABLE_CONNECT_PROTOCOL, 2), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_setting_out_of_its_range_ends_the_connection(
    is_client: bool, setting: tuple[int, int], code: ErrorCode
) -> None:
    peer, _, _ = peer_of(is_client=is_client)

    with pytest.raises(ConnectionFault) as caught:
        peer.apply(payload(setting))

    assert caught.value.code is code
    assert not peer.are_known


def test_extended_connect_can_not_be_taken_back() -> None:
    peer, _, _ = peer_of(is_client=True)
    peer.apply(payload((frames.ENABLE_CONNECT_PROTOCOL, 1)))

    with pytest.raises(ConnectionFault):
        peer.apply(payload((frames.ENABLE_CONNECT_PROTOCOL, 0)))
