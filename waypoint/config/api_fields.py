"""Field types of the Gateway API: names, hosts, headers, paths.

Each pattern is the API's. Its `description` completes the sentence "… is not …" for an invalid value.
"""

import re
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"

Group = Annotated[str, Meta(max_length=253, pattern=rf"^({_DOMAIN})?\Z", description="an API group such as apps")]
Kind = Annotated[
    str, Meta(max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?\Z", description="a kind such as Service")
]
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
Namespace = Annotated[
    str, Meta(max_length=63, pattern=rf"^{_LABEL}\Z", description="a namespace: a-z, 0-9 and - within")
]
SectionName = Annotated[
    str, Meta(max_length=253, pattern=rf"^{_DOMAIN}\Z", description="a name: a-z, 0-9, and - and . within")
]
Hostname = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^(\*\.)?{_DOMAIN}\Z",
        description="a host such as reviews.example.com or *.example.com, in lower case and without port",
    ),
]
PreciseHostname = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^{_DOMAIN}\Z",
        description="a host such as reviews.example.com, in lower case and without port",
    ),
]
HeaderName = Annotated[
    str, Meta(max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_|~`]+\Z", description="a header name (RFC 9110 5.1)")
]
ParamName = Annotated[
    str,
    Meta(max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_|~`]+\Z", description="a parameter name that the API takes"),
]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*").fullmatch


def is_path(text: str) -> bool:
    """Whether the text is valid as a request path. It need not be normalized."""
    return text.startswith("/") and _PATH(text) is not None


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs twice, or None."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
