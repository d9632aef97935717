"""Format numbers of heads and logs as bytes. Most are small, and a format takes longer than to look one up."""

_SMALL = 1000
_DECIMALS = tuple(b"%d" % number for number in range(_SMALL))


def decimal(number: int) -> bytes:
    """Format a number."""
    return _DECIMALS[number] if 0 <= number < _SMALL else b"%d" % number
