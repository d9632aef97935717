"""Decode HPACK's Huffman-coded strings (RFC 7541 section 5.2 and appendix B). The encoder writes none.

The code is canonical and therefore defined by the lengths of its codes: codes of one length count upwards in the order
of their symbols, and continue, one bit longer, where the shorter ones ended. At import, a table is built that gives,
for each position within a code and each next four bits, the next position and the decoded symbol. No code is shorter
than five bits, so four bits complete at most one symbol.
"""

from l4.http2.errors import ConnectionFault, ErrorCode

_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "141614141616161716171717171718171818161718171717171516171617171816"
    "151416161717151716161815161717151516151716171714161616171616171a1a"
    "1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b141814"
    "15161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
"""Code lengths in bits, by symbol. The last symbol is EOS, which must not appear in a string."""
_EOS = 256
_NO_SYMBOL = -1
_LONGEST_PADDING = 7

_Place = int
"""A position within a code, times 16: the code's bits read so far; 0 is none."""


def decode(packed: bytes) -> bytes:
    """Decode a string. Raises ConnectionFault for EOS, and for padding that is too long or not a prefix of EOS."""
    symbols = bytearray()
    steps, place = _STEPS, 0
    for byte in packed:
        place, symbol = steps[place + (byte >> 4)]
        if symbol >= 0:
            symbols.append(symbol)
        place, symbol = steps[place + (byte & 15)]
        if symbol >= 0:
            symbols.append(symbol)
    if place not in _ENDS:
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "HPACK: a Huffman string has invalid padding")
    return bytes(symbols)


def _codes() -> dict[str, int]:
    """Return symbols by code, written as 0 and 1."""
    codes: dict[str, int] = {}
    code = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda it: (_LENGTHS[it], it)):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        codes[f"{code:0{length}b}"] = symbol
        code += 1
    return codes


def _build() -> tuple[list[tuple[_Place, int]], frozenset[_Place]]:
    """Return steps by position and four bits, and the positions at which a string may end."""
    codes = _codes()
    begun = sorted({code[:length] for code in codes for length in range(len(code))}, key=len)
    places = {bits: number * 16 for number, bits in enumerate(begun)}
    dead = len(begun) * 16
    steps = [_step(bits, f"{four:04b}", codes, places, dead) for bits in begun for four in range(16)]
    steps += [(dead, _NO_SYMBOL)] * 16
    return steps, frozenset(places["1" * length] for length in range(_LONGEST_PADDING + 1))


def _step(bits: str, more: str, codes: dict[str, int], places: dict[str, _Place], dead: _Place) -> tuple[_Place, int]:
    found = _NO_SYMBOL
    for bit in more:
        bits += bit
        if bits in codes:
            found, bits = codes[bits], ""
            if found == _EOS:
                return dead, _NO_SYMBOL
    return places[bits], found


_STEPS, _ENDS = _build()
