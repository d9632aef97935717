"""Claims of a verified token (RFC 7519), which authorization and routes look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claims:
    """`values` is the token's decoded JSON payload."""

    values: Mapping[str, Any]

    @property
    def principal(self) -> str:
        """`ISSUER/SUBJECT`, Istio's `request.auth.principal`. Empty unless the token has both claims."""
        issuer, subject = self.values.get("iss"), self.values.get("sub")
        return f"{issuer}/{subject}" if isinstance(issuer, str) and isinstance(subject, str) else ""
