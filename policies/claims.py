"""What a request's verified token says of its bearer (RFC 7519), for authorization and routes to look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claims:
    """`values` is the token's payload, as JSON has it."""

    values: Mapping[str, Any]

    @property
    def principal(self) -> str:
        """`ISSUER/SUBJECT`, Istio's `request.auth.principal`; empty unless the token names both."""
        issuer, subject = self.values.get("iss"), self.values.get("sub")
        return f"{issuer}/{subject}" if isinstance(issuer, str) and isinstance(subject, str) else ""
