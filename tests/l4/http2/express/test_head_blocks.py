import pytest
from hpack import Encoder

from l4.http2 import frames
from l4.http2.errors import ConnectionFault
from l4.http2.express.head_blocks import HeadBlocks
from policies.attributes import Headers

INDEXED: Headers = [(b":method", b"GET"), (b":path", b"/")]
"""Both are in HPACK's static table: their block leaves the dynamic table as it is."""


def block_of(headers: Headers, encoder: Encoder | None = None) -> bytes:
    return (encoder or Encoder()).encode(headers)


def test_pieces_are_one_head() -> None:
    blocks, block = HeadBlocks(1000), block_of([*INDEXED, (b"a", b"b")])

    blocks.begin(frames.END_STREAM, 5, block[:2])
    blocks.add(block[2:3])
    blocks.add(block[3:])
    head = blocks.decode()

    assert head.headers == [*INDEXED, (b"a", b"b")]
    assert (blocks.stream_id, blocks.end_stream, blocks.pieces) == (5, True, None)


def test_the_same_bytes_are_the_same_head_while_the_table_stays() -> None:
    blocks, block = HeadBlocks(1000), block_of(INDEXED)
    blocks.begin(0, 1, block)
    first = blocks.decode()

    blocks.begin(0, 3, block)

    assert blocks.decode() is first


def test_a_head_that_comes_again_has_a_memo() -> None:
    blocks, block = HeadBlocks(1000), block_of(INDEXED)
    memos = []
    for stream_id in (1, 3, 5):
        blocks.begin(0, stream_id, block)
        memos.append(blocks.decode().memo)
    blocks.begin(0, 7, block_of([(b"a", b"b")]))  # which changes the table
    blocks.decode()
    blocks.begin(0, 9, block)

    assert memos[0] is None
    assert memos[1] is memos[2] is not None
    assert blocks.decode().memo is None


def test_the_same_bytes_are_another_head_once_the_table_has_changed() -> None:
    blocks, encoder = HeadBlocks(1000), Encoder()
    blocks.begin(0, 1, encoder.encode([(b"a", b"1")]))
    blocks.decode()
    newest = encoder.encode([(b"a", b"1")])  # the entry that is newest
    blocks.begin(0, 3, newest)
    before = blocks.decode()
    blocks.begin(0, 5, encoder.encode([(b"a", b"2")]))
    blocks.decode()

    blocks.begin(0, 7, newest)
    after = blocks.decode()

    assert before.headers == [(b"a", b"1")]
    assert after.headers == [(b"a", b"2")]


def test_priority_is_taken_off_and_dependence_on_itself_is_noticed() -> None:
    blocks = HeadBlocks(1000)

    blocks.begin(frames.PRIORITY_FLAG, 3, (3).to_bytes(4) + b"\x10" + block_of(INDEXED))
    itself = blocks.depends_on_itself
    head = blocks.decode()
    blocks.begin(frames.PRIORITY_FLAG, 5, (3).to_bytes(4) + b"\x10" + block_of(INDEXED))

    assert itself
    assert head.headers == INDEXED
    assert not blocks.depends_on_itself


@pytest.mark.parametrize(
    ("flags", "stream_id", "payload"),
    [
        pytest.param(0, 0, b"", id="on stream 0"),
        pytest.param(frames.PRIORITY_FLAG, 1, b"1234", id="without the priority it announces"),
        pytest.param(frames.PADDED, 1, b"\x05abc", id="with more padding than there is"),
    ],
)
def test_a_broken_frame_ends_the_connection(flags: int, stream_id: int, payload: bytes) -> None:
    with pytest.raises(ConnectionFault):
        HeadBlocks(1000).begin(flags, stream_id, payload)


def test_continuation_needs_headers() -> None:
    with pytest.raises(ConnectionFault):
        HeadBlocks(1000).add(b"")
