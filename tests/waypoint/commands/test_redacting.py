import pytest

from waypoint.commands.redacting import MARK, redacted, redacted_text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a -----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY----- b", f"a {MARK} b"),
        ("-----BEGIN EC PRIVATE KEY-----\nabc", MARK),
        ("Authorization: Bearer abcdefgh.x~/+=", f"Authorization: Bearer {MARK}"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln ends", f"token {MARK} ends"),
        ("GET /a?access_token=abc&b=1", f"GET /a?access_token={MARK}&b=1"),
        ("--db-password=abc", f"--db-password={MARK}"),
        ("postgres://user:abc@db:5432/x", f"postgres://user:{MARK}@db:5432/x"),
    ],
)
def test_secrets_are_removed_from_text(text: str, left: str) -> None:
    assert redacted_text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
        "spiffe://cluster.local/ns/default/sa/app",
        "http://10.0.0.1:9080/a?b=1",
        "CONNECT 10.0.0.1:15008 from spiffe://a/ns/b/sa/c refused",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redacted_text(text) == text


def test_values_are_removed_by_their_names() -> None:
    value = {
        "set": {"authorization": "Basic abc", "x-a": "b"},
        "headers": [{"name": "X-Api-Key", "value": "abc"}, {"name": "x-a", "value": "b"}],
        "authorization": [{"policy": "default/a"}],
        "jwks": '{"keys": []}',
        "when": [{"key": "source.namespace", "values": ["default"]}],
        "containers": [{"name": "a", "image": "b", "env": [{"name": "A", "value": "abc"}], "args": ["abc"]}],
        "count": 3,
        "none": None,
    }

    assert redacted(value) == {
        "set": {"authorization": MARK, "x-a": "b"},
        "headers": [{"name": "X-Api-Key", "value": MARK}, {"name": "x-a", "value": "b"}],
        "authorization": [{"policy": "default/a"}],
        "jwks": MARK,
        "when": [{"key": "source.namespace", "values": ["default"]}],
        "containers": [{"name": "a", "image": "b"}],
        "count": 3,
        "none": None,
    }
