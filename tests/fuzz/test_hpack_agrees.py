"""HPACK, ours and the library's: what one writes the other reads, and what one refuses the other refuses.

The one difference that is meant: ours reads no more than 32 table sizes in front of a block. Random bytes don't get
there. `FUZZ_SECONDS` makes it run for longer (`make fuzz`).
"""

import os
import time

import hpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l4.http2.errors import ConnectionFault
from l4.http2.hpack_decoder import Decoder
from l4.http2.hpack_encoder import Encoder
from l4.http2.hpack_table import STATIC, NeverIndexed
from policies.attributes import Headers

LIMIT = 20_000
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
OFTEN = settings(max_examples=400)

names = (
    st.sampled_from([name for name, _ in STATIC[1:]]) | st.sampled_from([b"te", b"x-a", b"x-b"]) | st.binary(max_size=9)
)
values = st.sampled_from([b"", b"0", b"200", b"GET", b"/", b"trailers"]) | st.binary(max_size=200)
fields = st.tuples(names, values) | st.tuples(names, values).map(NeverIndexed)
heads = st.lists(fields, max_size=12)
sizes = st.sampled_from([0, 31, 32, 100, 500, 4095, 4096])
steps = st.lists(st.tuples(st.lists(sizes, max_size=3), heads), max_size=12)

pieces = st.one_of(
    st.binary(max_size=8),
    st.integers(0x80, 0xFF).map(lambda byte: bytes([byte])),
    st.integers(0x20, 0x3F).map(lambda byte: bytes([byte, 1])),
    st.tuples(st.integers(0, 0x7F), st.binary(max_size=60), st.booleans()).map(
        lambda it: bytes([it[0], 0x80 * it[2] | len(it[1])]) + it[1]
    ),
    st.tuples(names, values, st.booleans()).map(lambda it: hpack.Encoder().encode([it[:2]], huffman=it[2])),
)
noise = st.lists(st.lists(pieces, max_size=10).map(b"".join), max_size=5)


class Pair:
    """Both decoders, which must always say the same."""

    def __init__(self) -> None:
        self.ours = Decoder(LIMIT)
        self.theirs = hpack.Decoder(LIMIT)

    def decode(self, block: bytes) -> Headers | None:
        """None for a mistake."""
        ours, theirs = self._ours(block), self._theirs(block)
        assert ours == theirs, block
        if ours is not None and theirs is not None:
            assert [type(field) is NeverIndexed for field in ours] == [not field.indexable for field in theirs]
            assert self.ours.list_size == sum(len(name) + len(value) + 32 for name, value in ours)
        return ours

    def _ours(self, block: bytes) -> Headers | None:
        try:
            return self.ours.decode(block)
        except ConnectionFault:
            return None

    def _theirs(self, block: bytes) -> list[hpack.HeaderTuple] | None:
        try:
            return list(self.theirs.decode(block, raw=True))
        except hpack.HPACKError:
            return None


def check_what_ours_writes(script: list[tuple[list[int], Headers]]) -> None:
    encoder, pair = Encoder(), Pair()
    for changes, head in script:
        for size in changes:
            encoder.resize(size)
        assert pair.decode(encoder.encode(head)) == head


def check_noise(blocks: list[bytes]) -> None:
    pair = Pair()
    for block in blocks:
        if pair.decode(block) is None:
            return


@OFTEN
@given(steps)
def test_both_read_what_ours_writes(script: list[tuple[list[int], Headers]]) -> None:
    check_what_ours_writes(script)


@OFTEN
@given(steps, st.booleans())
def test_both_read_what_the_library_writes(script: list[tuple[list[int], Headers]], huffman: bool) -> None:
    encoder, pair = hpack.Encoder(), Pair()
    for changes, head in script:
        for size in changes[:1]:  # of a second one that changes nothing, the library makes none at all
            encoder.header_table_size = size
        written = [(name, value, type(field) is NeverIndexed) for field in head for name, value in [field]]
        assert pair.decode(encoder.encode(written, huffman=huffman)) == head


@OFTEN
@given(noise)
def test_both_find_the_same_mistakes(blocks: list[bytes]) -> None:
    check_noise(blocks)


@OFTEN
@given(steps, st.integers(0, 2000), st.integers(0, 255))
def test_both_say_the_same_when_one_byte_is_another(
    script: list[tuple[list[int], Headers]], place: int, value: int
) -> None:
    encoder, pair = hpack.Encoder(), Pair()
    for number, (_, head) in enumerate(script):
        block = bytearray(encoder.encode(head))
        if block and number == place % len(script):
            block[place % len(block)] = value
        if pair.decode(bytes(block)) is None:
            return


def test_both_go_on_agreeing_for_as_long_as_they_are_asked_to() -> None:
    search = settings(max_examples=200, database=None, suppress_health_check=list(HealthCheck))
    checks = [search(given(noise)(check_noise)), search(given(steps)(check_what_ours_writes))]
    deadline = time.monotonic() + SECONDS

    while True:
        for check in checks:
            check()
        if time.monotonic() >= deadline:
            return
