from base64 import b64decode

from waypoint.http.websocket import accept_of, new_key


def test_the_key_of_the_rfc_is_answered_as_there() -> None:
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_every_key_is_another_sixteen_bytes() -> None:
    keys = {new_key() for _ in range(10)}

    assert len(keys) == 10
    assert {len(b64decode(key)) for key in keys} == {16}
