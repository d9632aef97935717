"""Who is signed in, in a cookie that only the product page can write: `<name>.<HMAC-SHA256 of the name>`.

There are no passwords: the shop has one shelf and no till. The key comes from SESSION_KEY, which replicas must share;
without it each process makes its own, and a restart signs everybody out.
"""

import hmac
import os
import secrets
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Seal:
    key: bytes = field(repr=False)

    @classmethod
    def from_environment(cls) -> Self:
        return cls(os.environ.get("SESSION_KEY", "").encode() or secrets.token_bytes(32))

    def seal(self, user: str) -> str:
        return f"{user}.{self._signature(user)}"

    def open(self, sealed: str) -> str | None:
        """The name, or None when we did not write this."""
        user, _, signature = sealed.rpartition(".")
        genuine = hmac.compare_digest(signature.encode(), self._signature(user).encode())
        return user if user and genuine else None

    def _signature(self, user: str) -> str:
        return hmac.digest(self.key, user.encode(), "sha256").hex()
