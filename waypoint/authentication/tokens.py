"""Verification of tokens: the live counterpart of `policies.jwt`, with keys and a cache of verified tokens.

Verification never waits. If keys are being fetched, a `Refusal` says what to wait for. A valid signature is cached
together with the key set that verified it; everything else about a token is checked for each request.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from l4.net.descriptors import lookups_at_once
from l4.net.tasks import Keep
from policies.attributes import RequestHead
from policies.claims import Claims
from policies.jwt import Authentication, Failure, InlineKeys, RemoteKeys, Token
from waypoint.authentication.keys import FetchedKeys
from waypoint.authentication.settings import TokenSettings
from waypoint.config.snapshot import Snapshot

if TYPE_CHECKING:
    from policies.jwks import KeySet


@dataclass(frozen=True, slots=True)
class Refusal:
    """If `fetching` is set, its end may bring other keys, and the token should be checked again."""

    failure: Failure
    fetching: asyncio.Event | None


class Tokens:
    """Implements `policies.jwt.Verifier`."""

    def __init__(self, settings: TokenSettings, keep: Keep) -> None:
        self._settings = settings
        self._keep = keep
        self._inline: dict[InlineKeys, KeySet] = {}
        self._remote: dict[RemoteKeys, tuple[FetchedKeys, asyncio.Task[None]]] = {}
        self._fetches = asyncio.Semaphore(lookups_at_once())
        self._verified = Verified(settings.jwt_cache_tokens, settings.jwt_cache_bytes)
        self._fetching: asyncio.Event | None = None
        self._digest = b""

    def reconcile(self, snapshot: Snapshot) -> None:
        """Keep exactly the keys that a snapshot needs. Call it before the snapshot goes live."""
        wanted = {
            rule.keys: None
            for destination in snapshot.destinations.values()
            if destination.authentication is not None
            for rule in destination.authentication.rules
        }
        self._inline = {it: self._inline.get(it) or _parsed(it) for it in wanted if isinstance(it, InlineKeys)}
        remote = [it for it in wanted if isinstance(it, RemoteKeys)]
        for gone in self._remote.keys() - remote:
            self._remote.pop(gone)[1].cancel()
        for source in remote:
            if source not in self._remote:
                fetched = FetchedKeys(source, self._settings, self._fetches)
                self._remote[source] = fetched, self._keep("fetching the keys of tokens", fetched.watch)

    def authenticate(self, authentication: Authentication, head: RequestHead, now: float) -> Claims | Refusal | None:
        """See `Authentication.authenticate`."""
        self._fetching = None
        found = authentication.authenticate(head, now, self)
        return Refusal(found, self._fetching) if isinstance(found, Failure) else found

    def close(self) -> None:
        for _, task in self._remote.values():
            task.cancel()
        self._remote.clear()

    # -- policies.jwt.Verifier -------------------------------------------------------------------------------------

    def token(self, raw: bytes) -> Token:
        self._digest = digest = sha256(raw).digest()
        return self._verified.find(digest) or Token.parse(raw)

    def verify(self, token: Token, keys: InlineKeys | RemoteKeys | None) -> Failure | None:
        if keys is None:
            return Failure.NO_VALID_KEY
        if isinstance(keys, InlineKeys):
            found, fetched = self._inline.get(keys), None
        else:
            fetched = self._remote[keys][0] if keys in self._remote else None
            found = fetched.keys if fetched is not None else None
        if found is None:
            self._fetching = fetched.fetching if fetched is not None else None
            return Failure.KEYS_NOT_FETCHED
        if self._verified.is_by(self._digest, found):
            return None
        failure = found.verify(token)
        if failure is None:
            self._verified.add(self._digest, token, found)
        elif failure is Failure.UNKNOWN_KEY and fetched is not None:
            self._fetching = fetched.ask()
        return failure


def _parsed(source: InlineKeys) -> "KeySet":
    from policies.jwks import KeySet

    return KeySet.parse(source.text)


class Verified:
    """Verified tokens by digest, least recently used first."""

    def __init__(self, max_tokens: int, max_bytes: int) -> None:
        self._max_tokens = max_tokens
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tokens: OrderedDict[bytes, tuple[Token, KeySet]] = OrderedDict()

    def find(self, digest: bytes) -> Token | None:
        found = self._tokens.get(digest)
        if found is None:
            return None
        self._tokens.move_to_end(digest)
        return found[0]

    def is_by(self, digest: bytes, keys: "KeySet") -> bool:
        found = self._tokens.get(digest)
        return found is not None and found[1] is keys

    def add(self, digest: bytes, token: Token, keys: "KeySet") -> None:
        if digest not in self._tokens:
            self._bytes += token.size
        self._tokens[digest] = token, keys
        while len(self._tokens) > self._max_tokens or self._bytes > self._max_bytes:
            _, (oldest, _) = self._tokens.popitem(last=False)
            self._bytes -= oldest.size
