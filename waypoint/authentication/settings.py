"""The settings of tokens: the keys that sign them, and the cache of those that were verified."""

from dataclasses import dataclass

from l4.config.settings import Section


@dataclass(frozen=True, slots=True)
class TokenSettings(Section):
    title = "Tokens"

    jwks_refresh_seconds: float = 300.0
    """Age at which the keys of tokens' issuers are fetched again; Envoy's value."""
    jwks_early_seconds: float = 10.0
    """Shortest time between two fetches that tokens with unknown keys cause."""
    jwks_retry_seconds: float = 60.0
    """Longest pause after failed fetches; the first is 1 s."""
    jwks_bytes: int = 1 << 20
    """Size of one set of keys, bytes."""
    jwt_cache_tokens: int = 10_000
    """Tokens in the cache of good signatures."""
    jwt_cache_bytes: int = 16 << 20
    """Size of these tokens as they came, bytes. In memory each takes a few times more."""
