"""HPACK by the book: the RFC's own examples, its limits, and what enters a table. Random input is in `tests/fuzz`."""

import hpack
import pytest
from hpack.table import HeaderTable

from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.hpack_decoder import Decoder
from l4.http2.hpack_encoder import Encoder
from l4.http2.hpack_table import STATIC, STATIC_COUNT, NeverIndexed
from policies.attributes import Header, Headers

LIMIT = 65_536

REQUESTS: list[Headers] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
_DATE = (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT")
_LOCATION = (b"location", b"https://www.example.com")
RESPONSES: list[Headers] = [
    [(b":status", b"302"), (b"cache-control", b"private"), _DATE, _LOCATION],
    [(b":status", b"307"), (b"cache-control", b"private"), _DATE, _LOCATION],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        _LOCATION,
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
]


def read(*blocks: str, limit: int = LIMIT) -> list[Headers]:
    decoder = Decoder(limit)
    return [decoder.decode(bytes.fromhex(block)) for block in blocks]


def mistake(block: bytes, limit: int = LIMIT) -> ConnectionFault:
    with pytest.raises(ConnectionFault) as raised:
        Decoder(limit).decode(block)
    assert raised.value.code is ErrorCode.COMPRESSION_ERROR
    return raised.value


# -- RFC 7541 appendix C ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", (b"custom-key", b"custom-header")),
        ("040c 2f73 616d 706c 652f 7061 7468", (b":path", b"/sample/path")),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", (b"password", b"secret")),
        ("82", (b":method", b"GET")),
    ],
)
def test_c_2_each_kind_of_field_is_read(block: str, field: Header) -> None:
    assert read(block) == [[field]]


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ),
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ),
    ],
    ids=["plain", "huffman"],
)
def test_c_3_and_c_4_requests_are_read(blocks: tuple[str, ...]) -> None:
    assert read(*blocks) == REQUESTS


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120"
            "474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738"
            "666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33"
            "3630 303b 2076 6572 7369 6f6e 3d31",
        ),
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718"
            "63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7"
            "b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ),
    ],
    ids=["plain", "huffman"],
)
def test_c_5_and_c_6_responses_are_read_though_the_table_is_too_small_for_them(blocks: tuple[str, ...]) -> None:
    small = "3f e1 01"  # 256 bytes, as in the examples

    assert read(small + blocks[0], *blocks[1:]) == RESPONSES


# -- reading: tables -------------------------------------------------------------------------------------------------


def test_the_static_table_is_the_libraries() -> None:
    assert STATIC[1:] == HeaderTable.STATIC_TABLE


def test_a_field_larger_than_the_table_empties_it() -> None:
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x40\x01a\x01b")

    decoder.decode(b"\x40\x01a" + b"\x7f\xa1\x1f" + b"v" * 4128)

    with pytest.raises(ConnectionFault, match="index 62"):
        decoder.decode(b"\xbe")


def test_a_name_may_come_from_the_field_that_its_own_field_drives_out() -> None:
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x3f\x0f" + b"\x40\x01a\x05small")  # a table of 46 bytes

    assert decoder.decode(b"\x7e\x05other" + b"\xbe") == [(b"a", b"other")] * 2


def test_a_block_means_the_same_until_the_table_changes() -> None:
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x40\x01a\x01b")
    before = decoder.generation

    decoder.decode(b"\x82\xbe\x00\x01c\x01d")
    same = decoder.generation
    decoder.decode(b"\x40\x01e\x01f")
    added = decoder.generation
    decoder.decode(b"\x20")

    assert before == same < added < decoder.generation


def test_what_is_never_to_be_indexed_stays_so() -> None:
    fields = Decoder(LIMIT).decode(b"\x10\x01a\x01b" + b"\x00\x01a\x01b")

    assert [isinstance(field, NeverIndexed) for field in fields] == [True, False]
    assert Encoder().encode(fields[:1]) == b"\x10\x01a\x01b"


# -- reading: what is a mistake --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "index 62"),
        (b"\x7f\x00\x01v", "index 63"),
        (b"\xff\xff\xff\xff\xff\x0f", "is in no table"),
        (b"\xff\x80\x80\x80\x80\x80\x00", "an integer has too many bytes"),
        (b"\x40\x01a\x7f\x80\x80\x80\x80\x80\x00", "an integer has too many bytes"),
        (b"\xff", "ends within a field"),
        (b"\x40", "ends within a field"),
        (b"\x40\x01a", "ends within a field"),
        (b"\x40\x02a", "ends within a string"),
        (b"\x3f\xe2\x1f", "a table size exceeds SETTINGS"),
        (b"\x82\x20", "a table size update follows"),
        (b"\x20" * 33, "too many table size updates"),
        (b"\x00\x81\xff\x00", "Huffman"),  # padding of a whole byte
        (b"\x00\x81\x00\x00", "Huffman"),  # padding that is not EOS's beginning
        (b"\x00\x84\xff\xff\xff\xff\x00", "Huffman"),  # EOS
    ],
)
def test_a_decoding_error_is_a_compression_error(block: bytes, sentence: str) -> None:
    assert sentence in mistake(block).sentence


@pytest.mark.parametrize(
    "block",
    [b"\xbd", b"\xff\x80\x80\x80\x80\x00\x82", b"\x3f\xe1\x1f\x82", b"\x20" * 32, b"", b"\x00\x81\x1f\x00"],
    ids=["last of the static table", "long zero", "largest table", "most sizes", "nothing", "padding"],
)
def test_at_the_limit_there_is_no_mistake(block: bytes) -> None:
    if block[:1] == b"\xff":  # 127: there must be something for it to mean
        decoder = Decoder(LIMIT)
        decoder.decode(b"".join(b"\x40\x01%c\x00" % number for number in range(66)))
        assert decoder.decode(block)[0] == (bytes([0]), b"")
    else:
        Decoder(LIMIT).decode(block)


def test_a_few_bytes_that_stand_for_many_are_cut_while_they_are_decoded() -> None:
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000)
    fitting = LIMIT // 4033

    assert len(decoder.decode(b"\xbe" * fitting)) == fitting
    assert decoder.list_size == fitting * 4033
    with pytest.raises(ConnectionFault) as raised:
        decoder.decode(b"\xbe" * (fitting + 1))
    assert raised.value.reason == "max_header_list_size"


def test_empty_fields_count_too() -> None:
    assert mistake(b"\x00\x00\x00" * 4, limit=4 * 32 - 1).reason == "max_header_list_size"
    assert len(Decoder(4 * 32).decode(b"\x00\x00\x00" * 4)) == 4


# -- writing ---------------------------------------------------------------------------------------------------------


def sizes(encoder: Encoder, *heads: Headers) -> list[int]:
    return [len(encoder.encode(head)) for head in heads]


def test_a_head_that_repeats_costs_one_byte_a_field() -> None:
    head = [(b":method", b"POST"), (b":path", b"/echo.Echo/Unary"), (b"te", b"trailers"), (b"x-new", b"value")]

    assert sizes(Encoder(), head, head, head)[1:] == [4 + 17, 4]  # the path is put into the table at its second time


def test_values_that_never_come_again_leave_the_table_to_those_that_do() -> None:
    encoder = Encoder()
    kept = [(b"x-kept", b"value")]
    encoder.encode(kept)

    for number in range(1000):
        encoder.encode([(b"x-request-id", b"%036d" % number), (b"content-length", b"%d" % number)])

    assert sizes(encoder, kept) == [1]


def test_the_oldest_fields_leave_a_full_table() -> None:
    encoder, decoder = Encoder(), Decoder(LIMIT)
    heads = [[(b"x-%d" % number, b"v" * 60)] for number in range(100)]

    for head in heads:
        assert decoder.decode(encoder.encode(head)) == head

    assert sizes(encoder, heads[99]) == [1]
    assert sizes(encoder, heads[0]) > [60]


@pytest.mark.parametrize("name", [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"])
def test_credentials_never_enter_a_table(name: bytes) -> None:
    encoder = Encoder()
    blocks = [encoder.encode([(name, b"secret")]) for _ in range(3)]

    assert len(set(blocks)) == 1
    assert blocks[0][0] & 0xF0 == 0x10
    assert isinstance(Decoder(LIMIT).decode(blocks[0])[0], NeverIndexed)


def test_one_field_gets_no_more_than_a_share_of_the_table() -> None:
    encoder = Encoder()
    large, fitting = [(b"x", b"v" * (1024 - 32))], [(b"x", b"v" * (1024 - 33))]

    assert min(sizes(encoder, large, large, large)) > 1024 - 32
    assert sizes(encoder, fitting, fitting)[1] == 1


def test_4_2_the_next_block_announces_the_smallest_table_and_the_last() -> None:
    encoder = Encoder()
    encoder.resize(100)
    encoder.resize(0)
    encoder.resize(4096)

    assert encoder.encode([]) == b"\x20" + b"\x3f\xe1\x1f"
    assert encoder.encode([]) == b""


def test_4_2_a_table_that_stays_as_it_is_is_not_announced() -> None:
    encoder = Encoder()
    encoder.resize(4096)

    assert encoder.encode([]) == b""


def test_a_table_of_no_bytes_is_never_written_to() -> None:
    encoder, decoder = Encoder(), hpack.Decoder()
    encoder.encode([(b"x-kept", b"value")])
    encoder.resize(0)

    for _ in range(3):
        assert decoder.decode(encoder.encode([(b"x-new", b"value")]), raw=True) == [(b"x-new", b"value")]
    assert not decoder.header_table.dynamic_entries


def test_the_largest_table_there_can_be_is_referred_to_to_its_end() -> None:
    encoder, decoder = Encoder(), Decoder(LIMIT)
    heads = [[(b"%c" % number, b"")] for number in range(124)]
    for head in heads:
        decoder.decode(encoder.encode(head))

    assert decoder.decode(encoder.encode(heads[0])) == heads[0]
    assert STATIC_COUNT + 124 > 127 + 32
