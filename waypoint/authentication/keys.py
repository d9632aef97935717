"""Keys of token issuers, fetched from configured addresses and kept up to date.

A key set is fetched as soon as a configuration needs it, and then every `jwks_refresh_seconds`. A token with an unknown
key causes an early fetch, at most every `jwks_early_seconds`. If a fetch fails, the last key set stays in use.
Redirects are not followed, so that nobody can downgrade https, and proxies in environment variables are ignored.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from l4.aiohttp import aiohttp
from l4.outside_tls import client_context
from l4.telemetry.process_log import EACH
from policies.jwt import RemoteKeys
from waypoint.authentication.settings import TokenSettings
from waypoint.config.istio.request_authentication import is_fetchable

if TYPE_CHECKING:
    from policies.jwks import KeySet

log = logging.getLogger(__name__)


class CannotFetch(Exception):
    """A fetch failed. The message says why."""


class FetchedKeys:
    """`keys` is None until the first fetch succeeds. `fetching` is set when the pending fetch ends; None if none is
    pending."""

    def __init__(self, source: RemoteKeys, settings: TokenSettings, fetches: asyncio.Semaphore) -> None:
        """`fetches` limits the number of concurrent fetches."""
        self.keys: KeySet | None = None
        self.fetching: asyncio.Event | None = asyncio.Event()
        self._source = source
        self._settings = settings
        self._fetches = fetches
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._next_early = 0.0
        self._text = b""
        self._told = ""

    def ask(self) -> asyncio.Event | None:
        """Request an early fetch. Returns the event of its end, or None if there was one recently."""
        now = self._loop.time()
        if self.fetching is None and now >= self._next_early:
            self._next_early = now + self._settings.jwks_early_seconds
            self.fetching = asyncio.Event()
            self._asked.set()
        return self.fetching

    async def watch(self) -> None:
        """Fetch until cancelled."""
        failures = 0
        while True:
            try:
                async with self._fetches:
                    await self._fetch()
                failures = 0
            except CannotFetch as error:
                failures += 1
                self._tell(str(error))
            finally:
                if self.fetching is not None:
                    self.fetching.set()
                    self.fetching = None
            settings = self._settings
            pause = (
                min(2.0 ** (failures - 1), settings.jwks_retry_seconds) if failures else settings.jwks_refresh_seconds
            )
            try:
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            except TimeoutError:
                self.fetching = self.fetching or asyncio.Event()
            self._asked.clear()

    def _tell(self, failure: str) -> None:
        """Log each failure once until the next success."""
        if failure != self._told:
            self._told = failure
            kept = "the last keys stay in use" if self.keys is not None else "tokens of this issuer are rejected"
            log.warning("cannot fetch token keys from %s; %s: %s", self._source.uri, kept, failure, extra=EACH)

    async def _fetch(self) -> None:
        """Raises CannotFetch."""
        from policies.jwks import InvalidKeys, KeySet

        timeout = aiohttp.ClientTimeout(total=self._source.timeout_seconds)
        try:
            connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(client_context))
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                text = await self._get(session, await self._address(session))
            if text != self._text:
                self.keys, self._text = KeySet.parse(text), text
                log.info("fetched token keys from %s: %d", self._source.uri, len(self.keys.keys), extra=EACH)
        except TimeoutError:
            raise CannotFetch(f"it took longer than {self._source.timeout_seconds:g} s") from None
        except (aiohttp.ClientError, OSError, InvalidKeys, ValueError) as error:
            raise CannotFetch(str(error) or type(error).__name__) from error
        self._told = ""

    async def _address(self, session: aiohttp.ClientSession) -> str:
        """OpenID Connect Discovery 1.0, section 4."""
        uri = self._source.uri
        if not self._source.is_discovered:
            return uri
        try:
            found = msgspec.json.decode(await self._get(session, uri))
        except (msgspec.DecodeError, RecursionError) as error:
            raise CannotFetch(f"the OpenID configuration is not JSON: {error}") from None
        address = found.get("jwks_uri") if isinstance(found, dict) else None
        is_weaker = uri.startswith("https:") and not str(address).startswith("https:")
        if not isinstance(address, str) or not is_fetchable(address) or is_weaker:
            raise CannotFetch(f"the OpenID configuration has an unusable jwks_uri {address!r}")
        return address

    async def _get(self, session: aiohttp.ClientSession, uri: str) -> bytes:
        limit, text = self._settings.jwks_bytes, b""
        async with session.get(uri, allow_redirects=False) as response:
            if response.status != 200:
                raise CannotFetch(f"{uri} answered {response.status}")
            async for data in response.content.iter_any():
                text += data
                if len(text) > limit:
                    raise CannotFetch(f"{uri} is longer than {limit} bytes; see JWKS_BYTES")
        return text
