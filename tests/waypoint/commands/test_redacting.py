import pytest

from waypoint.commands.redacting import MARK, redacted, redacted_text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a -----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY----- b", f"a {MARK} b"),
        ("-----BEGIN EC PRIVATE KEY-----\nabc", MARK),
        ("Authorization: Bearer abcdefgh.x~/+=", f"Authorization: {MARK}"),
        ("sent Bearer abcdefgh.x~/+= to it", f"sent Bearer {MARK} to it"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln ends", f"token {MARK} ends"),
        ("GET /a?access_token=abc&b=1", f"GET /a?access_token={MARK}&b=1"),
        ("--db-password=abc", f"--db-password={MARK}"),
        ("postgres://user:abc@db:5432/x", f"postgres://user:{MARK}@db:5432/x"),
        ("https://abc@git/x", f"https://{MARK}@git/x"),
        ("abc+/=\nabc\n-----END PRIVATE KEY-----\nb", f"{MARK}\nb"),
        ("x-api-key: abc def", f"x-api-key: {MARK}"),
        ("Set-Cookie: a=b; path=/", f"Set-Cookie: {MARK}"),
        ('{"password": "abc", "a": 1}', f'{{"password": {MARK}, "a": 1}}'),
        ("GET /a?session=abc&jwt=def", f"GET /a?session={MARK}&jwt={MARK}"),
        ("request.headers[x-api-key] in abc, def", f"request.headers[x-api-key] {MARK}"),
        ("request.headers['authorization'] == 'abc' && x", f"request.headers['authorization'] {MARK}"),
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
        "the token of default/a expired; AuthorizationPolicy default/a: rules[0] is ignored",
        "request.headers[x-user] in a; request.headers[x-api-key]",
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


SECRET = "hunter2"


@pytest.mark.parametrize(
    "value",
    [
        {"headers": {"x-api-key": {"exact": SECRET}}},
        {"headers": {"authorization": {"regex": SECRET}, "cookie": {"prefix": SECRET}}},
        {"headers": [{"name": "x-session-id", "type": "Exact", "value": SECRET}]},
        {"when": [{"key": "request.headers[x-api-key]", "values": [SECRET], "notValues": [SECRET]}]},
        {"rules": [f"source.namespace in a and request.headers[authorization] in {SECRET}"]},
        {"cel": f"request.headers['x-auth-key'] == '{SECRET}'"},
        {"annotations": {"kapp.k14s.io/original": f'{{"env": [{{"name": "A", "value": "{SECRET}"}}]}}'}},
        {"annotations": {"source": f"https://{SECRET}@git.example/a"}},
        {"data": {"mesh": f"http:\n  headers:\n  - name: x-api-key\n    value: {SECRET}\n"}},
        {"data": {"db-password": SECRET}},
        {"x-jwt": SECRET, "X-Auth": [SECRET, {"exact": SECRET}]},
        {"httpGet": {"httpHeaders": [{"name": "Cookie", "value": SECRET}]}},
    ],
)
def test_secrets_are_found_wherever_objects_have_them(value: object) -> None:
    assert SECRET not in str(redacted(value))


def test_what_says_where_a_secret_is_stays() -> None:
    value = {
        "when": [{"key": "request.headers[x-api-key]", "values": [SECRET, SECRET]}],
        "jwtRules": [
            {"issuer": "a", "jwksUri": "https://a/keys", "fromHeaders": [{"name": "x-jwt", "prefix": "Bearer "}]}
        ],
        "data": {"mesh": "trustDomain: cluster.local"},
    }

    found = redacted(value)

    assert found["when"] == [{"key": "request.headers[x-api-key]", "values": [MARK, MARK]}]
    assert found["jwtRules"][0]["issuer"] == "a"
    assert found["jwtRules"][0]["fromHeaders"][0]["name"] == "x-jwt"
    assert found["data"] == {"mesh": {"trustDomain": "cluster.local"}}
