"""Certificates signed by an authority: requested when an identity is wanted, and renewed halfway through their life.

Each request has its own key, which is never written to disk. A certificate is renewed at a random point between 40 and
50 % of its life, so that replicas that started together do not renew together. A failed request is repeated after a
jittered, doubling pause; the previous certificate stays in use until it expires, and no longer. At most `MAX_REQUESTS`
requests run at a time, and identities without a certificate come first. An answer for an identity that was forgotten in
the meantime is dropped.

Answers are verified: one replaces a certificate only if chain, key and bundle match, OpenSSL accepts them, and the
identity is the requested one.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import uniform

from l4.identity.authority import Authority, AuthorityError, certificate_request
from l4.identity.certificate import Certificate, InvalidCertificate, Pem
from l4.identity.revocation import RevocationFile, Revocations
from l4.identity.source import CertificateAwaited, Clock, NoCertificate, WorkloadCertificate, joined
from policies.attributes import Identity

log = logging.getLogger(__name__)

MAX_REQUESTS = 8
"""ztunnel's limit."""
REQUEST_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 150.0
MAX_NEEDED_PAUSE_SECONDS = 15.0
"""While there is no valid certificate, and connections fail for want of it."""
_RENEWAL_SHARES = 0.4, 0.5
_PAUSE_SHARES = 0.8, 1.2
_MIN_RENEWAL_SECONDS = 1.0
"""Minimum interval between requests, even if the authority signs for a very short time."""
_LOOK_SECONDS = 1.0
"""Interval of checks for an adjusted wall clock and for new revocation lists."""


@dataclass(slots=True, eq=False)
class _Wanted:
    """The state of one wanted identity.

    `due` is the wall-clock time of the next request. `failure` says why the last request failed, or is empty.
    """

    identity: Identity
    due: float
    pause: float = FIRST_PAUSE_SECONDS
    current: WorkloadCertificate | None = None
    failure: str = ""
    request: "asyncio.Task[None] | None" = None


class AuthoritySource:
    """Certificates of all wanted identities, signed by `authority` while `watch` runs."""

    def __init__(
        self,
        authority: Authority,
        revocations_path: Path | None = None,
        *,
        max_identities: int = 1024,  # more than the pods of a node; each costs about 50 KiB
        clock: Clock = time.time,
    ) -> None:
        self._authority = authority
        self._revocations = RevocationFile(revocations_path) if revocations_path is not None else None
        self._max_identities = max_identities
        self._clock = clock
        self._wanted: dict[Identity, _Wanted] = {}
        self._under_way = 0
        self._is_full = False
        self._stale = ""
        self._woken = asyncio.Event()
        self._callbacks: list[Callable[[WorkloadCertificate], None]] = []

    def want(self, identity: Identity) -> None:
        if identity in self._wanted:
            return
        self._is_full = len(self._wanted) >= self._max_identities
        if not self._is_full:
            self._wanted[identity] = _Wanted(identity, self._clock())
            self._woken.set()

    def get(self, identity: Identity) -> WorkloadCertificate:
        wanted = self._wanted.get(identity)
        if wanted is None:
            raise NoCertificate(identity, self._full if self._is_full else "it was not requested")
        current = wanted.current
        if current is None:
            if failure := wanted.failure or self._revocation_concern:
                raise NoCertificate(identity, failure)
            raise CertificateAwaited(identity, "the authority has not answered yet")
        if current.seconds_left(self._clock()) <= 0:
            raise NoCertificate(identity, f"it expired at {current.certificate.not_after}; {wanted.failure}")
        return current

    def forget(self, identity: Identity) -> None:
        gone = self._wanted.pop(identity, None)
        if gone is not None:
            self._is_full = False
            if gone.request is not None:
                gone.request.cancel()

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None:
        self._callbacks.append(callback)

    @property
    def seconds_left(self) -> float | None:
        now = self._clock()
        return min((it.current.seconds_left(now) for it in self._wanted.values() if it.current), default=None)

    @property
    def concern(self) -> str:
        now = self._clock()
        more = (self._full if self._is_full else "", self._revocation_concern, self._stale)
        return joined((*more, *(_concern(it, now) for it in self._wanted.values())))

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as requests:
            while True:
                self._woken.clear()
                await self._follow_revocations()
                for wanted in self._due():
                    self._begin(requests, wanted)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._woken.wait()

    @property
    def _full(self) -> str:
        return f"more than {self._max_identities} identities are wanted, which is the limit of one process"

    @property
    def _revocation_concern(self) -> str:
        return self._revocations.concern if self._revocations is not None else ""

    @property
    def _must_wait(self) -> bool:
        """Whether to wait for an answer, or for the revocation list, without which no certificate is usable."""
        is_unread = self._revocations is not None and not self._revocations.is_read
        return is_unread or self._under_way >= MAX_REQUESTS

    def _due(self) -> list[_Wanted]:
        """Return the identities to request a certificate for now."""
        if self._must_wait:
            return []
        now, room = self._clock(), MAX_REQUESTS - self._under_way
        due = [it for it in self._wanted.values() if it.request is None and it.due <= now]
        due.sort(key=lambda it: (it.current is not None and it.current.seconds_left(now) > 0, it.due))
        return due[:room]

    def _pause(self) -> float:
        if self._must_wait:
            return _LOOK_SECONDS
        due = min((it.due for it in self._wanted.values() if it.request is None), default=float("inf"))
        return max(0.0, min(_LOOK_SECONDS, due - self._clock()))

    def _begin(self, requests: asyncio.TaskGroup, wanted: _Wanted) -> None:
        def ended(task: "asyncio.Task[None]") -> None:
            self._under_way -= 1
            wanted.request = None
            self._woken.set()

        self._under_way += 1
        wanted.request = requests.create_task(self._request(wanted))
        wanted.request.add_done_callback(ended)

    async def _request(self, wanted: _Wanted) -> None:
        """Send one request to the authority. A failure affects only this identity."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                signed = await self._signed(wanted.identity)
        except TimeoutError:
            self._failed(wanted, f"the authority did not answer within {REQUEST_SECONDS:g} s")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(wanted, "the request to the authority was cancelled")
        except (AuthorityError, InvalidCertificate) as error:
            self._failed(wanted, str(error))
        except Exception as error:  # a bug in the authority's client must not affect other identities
            self._failed(wanted, f"the request to the authority failed: {error!r}", error)
        else:
            if self._wanted.get(wanted.identity) is wanted:
                self._succeeded(wanted, signed)

    async def _signed(self, identity: Identity) -> WorkloadCertificate:
        revocations = self._known_revocations()
        key, csr_pem = certificate_request(identity)
        answer = await self._authority.sign(identity, csr_pem)
        chain = Pem("the authority's certificate chain", answer.chain_pem)
        bundle = Pem("the authority's trust bundle", answer.trust_bundle_pem)
        certificate = Certificate.of(chain, Pem("the private key", key.pem), bundle, now=self._clock())
        if certificate.identity != identity:
            raise InvalidCertificate(chain.origin, f"is for {certificate.identity}, not for {identity}")
        return await asyncio.to_thread(WorkloadCertificate, certificate, revocations)

    def _succeeded(self, wanted: _Wanted, signed: WorkloadCertificate) -> None:
        now = self._clock()
        wanted.current = signed
        wanted.failure = ""
        wanted.pause = FIRST_PAUSE_SECONDS
        wanted.due = now + max(signed.seconds_left(now) * uniform(*_RENEWAL_SHARES), _MIN_RENEWAL_SECONDS)
        log.info("certificate of %s signed, valid until %s", wanted.identity, signed.certificate.not_after)
        self._tell(signed)

    def _failed(self, wanted: _Wanted, failure: str, error: Exception | None = None) -> None:
        now, pause = self._clock(), wanted.pause * uniform(*_PAUSE_SHARES)
        wanted.due = now + min(pause, MAX_NEEDED_PAUSE_SECONDS)
        wanted.pause = min(2 * wanted.pause, MAX_PAUSE_SECONDS)
        if wanted.current is not None and wanted.current.expires_at > now:
            wanted.due = min(now + min(pause, MAX_PAUSE_SECONDS), wanted.current.expires_at)
        if failure != wanted.failure:
            wanted.failure = failure
            log.warning("%s", _concern(wanted, now), exc_info=error)

    async def _follow_revocations(self) -> None:
        if self._revocations is None:
            return
        await asyncio.to_thread(self._revocations.refresh)
        self._stale = ""
        for wanted in list(self._wanted.values()):
            old = wanted.current
            if old is None or old.revocations is self._known_revocations():
                continue
            try:
                renewed = await asyncio.to_thread(WorkloadCertificate, old.certificate, self._known_revocations())
            except InvalidCertificate as error:  # out of descriptors; the next check tries again
                self._stale = f"the new revocation list is not in use yet: {error}"
                return
            if wanted.current is old:  # and was not signed again meanwhile
                wanted.current = renewed
                if self._wanted.get(wanted.identity) is wanted:
                    self._tell(renewed)

    def _known_revocations(self) -> Revocations | None:
        return self._revocations.current if self._revocations is not None else None

    def _tell(self, certificate: WorkloadCertificate) -> None:
        for callback in self._callbacks:
            callback(certificate)


def _concern(wanted: _Wanted, now: float) -> str:
    """Return what needs an operator's attention, or an empty text."""
    current, identity = wanted.current, wanted.identity
    if not wanted.failure:
        return current.concern(now) if current is not None else ""
    if current is None:
        return f"no certificate for {identity}: {wanted.failure}"
    if current.seconds_left(now) <= 0:
        return f"{current.concern(now)}: {wanted.failure}"
    not_after = current.certificate.not_after
    return f"the certificate of {identity} cannot be renewed and expires at {not_after}: {wanted.failure}"
