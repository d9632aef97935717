"""Helpers for llhttp, the parser of both HTTP/1.1 readers."""

from httptools import HttpParserError

END_OF_HEAD = b"\r\n\r\n"


def error_name(error: HttpParserError) -> str:
    """Return an llhttp error as detail of a response flag: `http1.invalid_header_token`."""
    words = "".join(c if c.isalnum() else " " for c in str(error)).lower().split()
    return "http1." + "_".join(words)
