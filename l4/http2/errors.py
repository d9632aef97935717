"""HTTP/2 error codes (RFC 9113 section 7), and the three kinds of errors on a connection."""

from enum import IntEnum


class ErrorCode(IntEnum):
    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def error_code(number: int) -> ErrorCode:
    """Return the code for a number from the wire. Unknown ones become INTERNAL_ERROR (RFC 9113 section 7)."""
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.INTERNAL_ERROR


class ConnectionFault(Exception):
    """The peer violated the connection's rules. The connection ends with GOAWAY.

    `reason` is the name of the limit that the peer exceeded, if any.
    """

    def __init__(self, code: ErrorCode, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.reason = reason


class StreamFault(Exception):
    """The peer violated one stream's rules. The stream ends with RST_STREAM; other streams continue."""

    def __init__(self, stream_id: int, code: ErrorCode, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.stream_id = stream_id
        self.code = code
        self.sentence = sentence
        self.reason = reason


class StreamUnavailable(Exception):
    """A stream has ended or no stream is free, so our own side cannot use it."""
