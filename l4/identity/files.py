"""Certificates from files that other programs renew: a mounted Secret, cert-manager's CSI driver, the development CA.

Files are polled by stat once a second: a renewal happens every few hours, and inotify misses changes on network file
systems and symlink swaps. A new certificate replaces the old one only if chain, key and trust bundle load together,
OpenSSL accepts them, and the identity is unchanged: policies, peers and metrics know a process by one identity, so a
new identity needs a restart. Until then the old certificate stays in use, each distinct failure is logged once, and
readiness has a concern. New handshakes use a new certificate immediately; existing connections continue until the old
certificate expires.

An expired certificate is never used: `get` raises, after warnings long before that time.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from l4.config.status import Version, version_of
from l4.identity.certificate import Certificate, InvalidCertificate, Pem
from l4.identity.revocation import Revocations
from l4.identity.source import Clock, NoCertificate, WorkloadCertificate, joined
from l4.telemetry.process_log import EACH
from policies.attributes import Identity

log = logging.getLogger(__name__)


def load(chain: Path, key: Path, bundle: Path, *, now: float | None = None) -> Certificate:
    """Read and check the three PEM files. Raises InvalidCertificate, which names the faulty file."""
    return Certificate.of(_read(chain), _read(key), _read(bundle), now=now)


def _read(path: Path) -> Pem:
    try:
        return Pem(str(path), path.read_bytes())
    except OSError as error:
        raise InvalidCertificate(str(path), f"cannot be read: {error.strerror}") from error


class FileStore:
    """One workload's certificate in three files, and optionally a revocation list."""

    def __init__(
        self,
        chain_path: Path,
        key_path: Path,
        bundle_path: Path,
        revocations_path: Path | None = None,
        *,
        poll_seconds: float = 1.0,
        clock: Clock = time.time,
    ) -> None:
        self._paths = (chain_path, key_path, bundle_path)
        self._revocations_path = revocations_path
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._current: WorkloadCertificate | None = None
        self._loaded_version: tuple[Version, ...] | None = None
        self._last_failure = ""
        self._last_warning = ""
        self._callbacks: list[Callable[[WorkloadCertificate], None]] = []

    @property
    def current(self) -> WorkloadCertificate:
        """The certificate loaded last, which may have expired. Raises InvalidCertificate before the first load."""
        if self._current is None:
            raise InvalidCertificate(str(self._paths[0]), "has not been loaded")
        return self._current

    def want(self, identity: Identity) -> None:
        """Does nothing: the files hold one certificate, and are followed in any case."""

    def forget(self, identity: Identity) -> None:
        """Does nothing, as `want`."""

    def get(self, identity: Identity) -> WorkloadCertificate:
        current = self._current
        if current is None:
            raise NoCertificate(identity, f"{self._paths[0]} has not been loaded")
        if current.identity != identity:
            raise NoCertificate(identity, f"{self._paths[0]} contains the certificate of {current.identity}")
        if current.seconds_left(self._clock()) <= 0:
            raise NoCertificate(identity, f"{self._paths[0]} expired at {current.certificate.not_after}")
        return current

    @property
    def concern(self) -> str:
        """A late or failing renewal that needs attention, or an empty text."""
        failure = f"{self._kept}: {self._last_failure}" if self._last_failure else ""
        return "; ".join(filter(None, (failure, self.current.concern(self._clock()))))

    @property
    def seconds_left(self) -> float:
        return self.current.seconds_left(self._clock())

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None:
        """Call `callback` with the new certificate after every replacement."""
        self._callbacks.append(callback)

    def load(self) -> None:
        """Read the files now. Raises InvalidCertificate and leaves the state unchanged."""
        version = self._version()  # taken first, so that the next poll sees a change during the load
        self._take(self._read(), version)

    async def refresh(self) -> None:
        """Reload in a thread if a file has changed. A failure is retried at the next call, and logged once."""
        version = self._version()
        if version != self._loaded_version:
            await self._replace(version)
        warning = self._current.concern(self._clock()) if self._current is not None else ""
        if warning != self._last_warning:
            self._last_warning = warning
            if warning:
                log.warning("%s", warning, extra=EACH)

    def _read(self) -> WorkloadCertificate:
        """A list of 20,000 revoked certificates takes 0.4 s. Raises InvalidCertificate."""
        path = self._revocations_path
        revocations = Revocations.load(path) if path is not None else None
        return WorkloadCertificate(load(*self._paths, now=self._clock()), revocations)

    def _take(self, loaded: WorkloadCertificate, version: tuple[Version, ...]) -> None:
        if self._current is not None and loaded.identity != self._current.identity:
            raise InvalidCertificate(
                str(self._paths[0]),
                f"now contains the certificate of {loaded.identity}; restore {self._current.identity} or restart",
            )
        self._current = loaded
        self._loaded_version = version
        self._last_failure = ""

    async def _replace(self, version: tuple[Version, ...]) -> None:
        try:
            self._take(await asyncio.to_thread(self._read), version)
        except InvalidCertificate as error:
            self._loaded_version = None
            if str(error) != self._last_failure:
                self._last_failure = str(error)
                log.warning("%s: %s", self._kept, error, extra=EACH)
            return
        current = self.current
        log.info(
            "certificate of %s renewed, valid until %s", current.identity, current.certificate.not_after, extra=EACH
        )
        for callback in self._callbacks:
            callback(current)

    @property
    def _kept(self) -> str:
        if self._current is None:
            return "the certificate cannot be loaded"
        return f"the old certificate of {self._current.identity} stays in use, because the new one cannot be loaded"

    def _version(self) -> tuple[Version, ...]:
        more = () if self._revocations_path is None else (self._revocations_path,)
        return tuple(map(version_of, (*self._paths, *more)))

    async def watch(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self.refresh()


class FolderStore:
    """Certificates of many workloads: `<namespace>.<service account>.pem` and `.key` in one folder.

    A certificate is loaded when it is first requested. Whatever its name, a file serves only the identity in its
    certificate. All share one trust bundle and one revocation list.
    """

    def __init__(
        self,
        folder: Path,
        bundle_path: Path,
        revocations_path: Path | None = None,
        *,
        poll_seconds: float = 1.0,
        max_identities: int = 1024,  # more than the pods of a node; each costs about 50 KiB
        clock: Clock = time.time,
    ) -> None:
        self._folder = folder
        self._bundle_path = bundle_path
        self._revocations_path = revocations_path
        self._poll_seconds = poll_seconds
        self._max_identities = max_identities
        self._clock = clock
        self._stores: OrderedDict[Identity, FileStore] = OrderedDict()
        self._callbacks: list[Callable[[WorkloadCertificate], None]] = []

    @property
    def seconds_left(self) -> float | None:
        return min((store.seconds_left for store in self._stores.values()), default=None)

    @property
    def concern(self) -> str:
        return joined(store.concern for store in self._stores.values())

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None:
        """Call `callback` with the new certificate after every replacement."""
        self._callbacks.append(callback)

    def want(self, identity: Identity) -> None:
        """Load the identity's files if they exist and there is room. Otherwise `get` loads them, or reports what is
        missing."""
        if identity not in self._stores and len(self._stores) < self._max_identities:
            with suppress(NoCertificate):
                self._open(identity)

    def forget(self, identity: Identity) -> None:
        self._stores.pop(identity, None)

    def get(self, identity: Identity) -> WorkloadCertificate:
        store = self._stores.get(identity) or self._open(identity)
        self._stores.move_to_end(identity)
        return store.get(identity)

    def _open(self, identity: Identity) -> FileStore:
        path = self._folder / f"{identity.namespace}.{identity.service_account}.pem"
        key_path = path.with_suffix(".key")
        store = FileStore(path, key_path, self._bundle_path, self._revocations_path, clock=self._clock)
        store.on_change(self._replaced)
        try:
            store.load()
        except InvalidCertificate as error:
            raise NoCertificate(identity, str(error)) from error
        store.get(identity)
        self._stores[identity] = store
        if len(self._stores) > self._max_identities:
            self._stores.popitem(last=False)
        return store

    def _replaced(self, certificate: WorkloadCertificate) -> None:
        for callback in self._callbacks:
            callback(certificate)

    async def watch(self) -> None:
        """Refresh all loaded certificates until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            for store in list(self._stores.values()):
                await store.refresh()
