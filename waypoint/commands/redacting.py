"""Remove secrets from what leaves a machine in a bug report: from text, and from plain values.

What programs tell of themselves has no secrets by design. This is the second line of defence, for what others wrote:
objects, whose routes may set an `authorization` header, and logs of any program. It rather removes too much.
"""

import re
from typing import Any

MARK = "(redacted)"
_NAME = re.compile(
    r"authorization$|authentication$|oauth|cookie|token|secret|passw|pwd|api[-_]?key|access[-_]?key|private[-_]?key|"
    r"credential|signature|jwks$|saml|assertion",
    re.IGNORECASE,
)
_TEXTS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MARK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MARK),
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), rf"\1:{MARK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MARK}"),
    (
        re.compile(
            r"(?i)((?:^|[?&;\s\"'])(?:[\w.-]*(?:token|secret|passw(?:or)?d|pwd|api[-_]?key|access[-_]?key|signature|assertion)"
            r"[\w.-]*|code|sig|key)=)[^&;\s\"']+"
        ),
        rf"\1{MARK}",
    ),
)
_LEFT_OUT = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration", "env", "args", "command"})
"""Copies of an object within it, and what containers are started with, which often has secrets."""


def redacted_text(text: str) -> str:
    """Return text without private keys, tokens, and values of parameters that sound like credentials."""
    for pattern, mark in _TEXTS:
        text = pattern.sub(mark, text)
    return text


def redacted(value: Any, name: str = "") -> Any:
    """Return plain values without those whose names sound like credentials. `{name: …, value: …}` counts as well."""
    if isinstance(value, dict):
        named = value.get("name")
        is_secret = isinstance(named, str) and bool(_NAME.search(named))
        return {
            key: MARK if key == "value" and is_secret else redacted(its, str(key))
            for key, its in value.items()
            if key not in _LEFT_OUT
        }
    if isinstance(value, list | tuple):
        return [redacted(it, name) for it in value]
    if isinstance(value, str):
        return MARK if value and _NAME.search(name) else redacted_text(value)
    return value
