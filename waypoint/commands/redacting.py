"""Remove secrets from what leaves a machine in a bug report: from text, and from plain values.

What programs tell of themselves has no secrets by design. This is the second line of defence, for what others wrote:
objects, whose routes may set an `authorization` header, and logs of any program. It rather removes too much.
"""

import re
from typing import Any

import yaml

MARK = "(redacted)"
_WORDS = (
    r"authorization|cookie|token|secret|passw|pwd|api[-_]?key|access[-_]?key|private[-_]?key|credential|signature|session|"
    r"client[-_]cert|saml|assertion|x-auth|oauth"
)
_NAME = re.compile(
    rf"{_WORDS}|authentication$|jwks$|(?:^|[-_.])jwt(?:$|[-_.])|(?:^|[-_.])auth(?:$|[-_.])|^(?:pass|pin|otp)$",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\[(.*?)\]")
"""The name in `request.headers[x-api-key]`."""
_VALUES = frozenset({"value", "values", "notValues", "exact", "prefix", "suffix", "regex", "contains", "pattern"})
"""What a header is compared with, or set to, beside or below its name."""
_TEXTS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MARK),
    (re.compile(r"\A[\w+/=\s]*-----END [A-Z ]*PRIVATE KEY-----"), MARK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MARK),
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), rf"\1:{MARK}@"),
    (re.compile(r"://[^/\s:@]+@"), rf"://{MARK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MARK}"),
    # `request.headers[x-api-key] …` as in policies, and `request.headers['x-api-key'] == '…'` as in CEL
    (re.compile(rf"(?i)(\[['\"]?[\w.-]{{0,64}}(?:{_WORDS})[\w.-]{{0,64}}['\"]?\])[^\r\n;]+"), rf"\1 {MARK}"),
    # `x-api-key: …` and `"x-api-key": "…"`
    (
        re.compile(
            rf"(?i)(?<![\w./-])([\w.-]{{0,64}}(?:{_WORDS})[\w.-]{{0,64}}[\"']?:[ \t]*)"
            r"(?:\"[^\"\r\n]*\"|'[^'\r\n]*'|[^\s,{}\[\]][^\r\n]*)"
        ),
        rf"\1{MARK}",
    ),
    (
        re.compile(
            rf"(?i)((?:^|[?&;\s\"'])(?:[\w.-]{{0,64}}(?:{_WORDS})[\w.-]{{0,64}}|code|sig|key|auth|jwt)=)[^&;\s\"']+"
        ),
        rf"\1{MARK}",
    ),
)
_LEFT_OUT = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration", "env", "args", "command"})
"""Copies of an object within it, and what containers are started with, which often has secrets."""
_EMBEDDED = ("{", "[", "-----")
"""How annotations begin that hold a copy of an object, as some installers add."""


def redacted_text(text: str) -> str:
    """Return text without private keys, tokens, and values of parameters that sound like credentials."""
    for pattern, mark in _TEXTS:
        text = pattern.sub(mark, text)
    return text


def redacted(value: Any, name: str = "") -> Any:
    """Return plain values without those whose names sound like credentials.

    The name of a value is its key, or what `name` or `key` beside it, or the key above it says: `{name: …, value: …}`,
    `{key: request.headers[…], values: […]}`, `x-api-key: {exact: …}`.
    """
    if isinstance(value, dict):
        is_secret = any(_is_secret(it) for it in (name, value.get("name"), value.get("key")))
        return {
            key: _hidden(its) if is_secret and key in _VALUES else _of_key(str(key), its, name)
            for key, its in value.items()
            if key not in _LEFT_OUT
        }
    if isinstance(value, list | tuple):
        return [redacted(it, name) for it in value]
    if isinstance(value, str):
        return MARK if value and _is_secret(name) else redacted_text(value)
    return value


def _of_key(key: str, value: Any, above: str) -> Any:
    if isinstance(value, str) and above == "annotations" and value.lstrip().startswith(_EMBEDDED):
        return MARK
    if isinstance(value, str) and above == "data":  # of a ConfigMap, whose values may be documents
        return _of_document(key, value)
    return redacted(value, key)


def _of_document(key: str, text: str) -> Any:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    return redacted(found, key) if isinstance(found, dict | list) else redacted(text, key)


def _is_secret(name: object) -> bool:
    if not isinstance(name, str):
        return False
    bracketed = _BRACKETS.search(name)
    return _NAME.search(bracketed[1] if bracketed else name) is not None


def _hidden(value: Any) -> Any:
    """Hide what a secret is or is compared with, but not how many there are."""
    if isinstance(value, list | tuple):
        return [_hidden(it) for it in value]
    return MARK if isinstance(value, str | dict) else value
