"""What both readers of HTTP/1.1 know of llhttp, their parser."""

from httptools import HttpParserError

END_OF_HEAD = b"\r\n\r\n"


def error_name(error: HttpParserError) -> str:
    """An error of llhttp as the detail of a response flag: `http1.invalid_header_token`."""
    words = "".join(c if c.isalnum() else " " for c in str(error)).lower().split()
    return "http1." + "_".join(words)
