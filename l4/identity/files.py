"""Certificates from files that other programs renew: a mounted Secret, cert-manager's CSI driver, our development CA.

Files are polled by stat once a second: a renewal happens every few hours, and inotify misses what network file
systems and symlink swaps do. A new certificate replaces the old one only if chain, key and trust bundle load as a
whole, OpenSSL accepts them, and the identity is the same: policies, peers and metrics know a process by one identity,
so who is to be somebody else starts anew. Until then the old one keeps serving, each distinct failure is logged once,
and there is a sentence for readiness. New handshakes use the new certificate at once, connections made with the old one
live on until that expires.

Nothing is served after its time: `get` fails closed with a sentence, and long before that somebody is warned.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from l4.identity.certificate import Certificate, InvalidCertificate, Pem
from l4.identity.file_version import Version, version_of
from l4.identity.revocation import Revocations
from l4.identity.source import Clock, NoCertificate, WorkloadCertificate, joined
from l4.telemetry.process_log import EACH
from policies.attributes import Identity

log = logging.getLogger(__name__)


def load(chain: Path, key: Path, bundle: Path, *, now: float | None = None) -> Certificate:
    """Read and check the three PEM files; raises InvalidCertificate naming the file that is at fault."""
    return Certificate.of(_read(chain), _read(key), _read(bundle), now=now)


def _read(path: Path) -> Pem:
    try:
        return Pem(str(path), path.read_bytes())
    except OSError as error:
        raise InvalidCertificate(str(path), f"cannot be read: {error.strerror}") from error


class FileStore:
    """One workload's certificate, in three files, and if there is one, the list of those that are revoked."""

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
        """What was loaded last, expired or not; `load` must have succeeded before."""
        if self._current is None:
            raise InvalidCertificate(str(self._paths[0]), "has not been loaded")
        return self._current

    def want(self, identity: Identity) -> None:
        """Nothing to do: the files hold one identity's certificate and are followed anyway."""

    def forget(self, identity: Identity) -> None:
        """Nothing to do, as for `want`."""

    def get(self, identity: Identity) -> WorkloadCertificate:
        current = self._current
        if current is None:
            raise NoCertificate(identity, f"{self._paths[0]} has not been loaded")
        if current.identity != identity:
            raise NoCertificate(identity, f"{self._paths[0]} is the certificate of {current.identity}")
        if current.seconds_left(self._clock()) <= 0:
            raise NoCertificate(identity, f"{self._paths[0]} expired at {current.certificate.not_after}")
        return current

    @property
    def concern(self) -> str:
        """What somebody should look after: a renewal that is late, or that can't be used. Empty while nothing is."""
        failure = f"{self._kept}: {self._last_failure}" if self._last_failure else ""
        return "; ".join(filter(None, (failure, self.current.concern(self._clock()))))

    @property
    def seconds_left(self) -> float:
        return self.current.seconds_left(self._clock())

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None:
        """Call `callback` after every replacement, with the new certificate."""
        self._callbacks.append(callback)

    def load(self) -> None:
        """Read the files now; raises InvalidCertificate and then leaves everything as it was."""
        version = self._version()  # taken first: a change during the load is seen by the next poll
        path = self._revocations_path
        revocations = Revocations.load(path) if path is not None else None
        loaded = WorkloadCertificate(load(*self._paths, now=self._clock()), revocations)
        if self._current is not None and loaded.identity != self._current.identity:
            raise InvalidCertificate(
                str(self._paths[0]),
                f"is the certificate of {loaded.identity} now; put that of {self._current.identity} back, or restart",
            )
        self._current = loaded
        self._loaded_version = version
        self._last_failure = ""

    def refresh(self) -> None:
        """Load again if a file has changed. A failure is tried again at the next call, and logged once."""
        if self._version() != self._loaded_version:
            self._replace()
        warning = self._current.concern(self._clock()) if self._current is not None else ""
        if warning != self._last_warning:
            self._last_warning = warning
            if warning:
                log.warning("%s", warning, extra=EACH)

    def _replace(self) -> None:
        try:
            self.load()
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
        return f"the certificate of {self._current.identity} stays in use, the new one cannot be loaded"

    def _version(self) -> tuple[Version, ...]:
        more = () if self._revocations_path is None else (self._revocations_path,)
        return tuple(map(version_of, (*self._paths, *more)))

    async def watch(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            self.refresh()


class FolderStore:
    """The certificates of many workloads: `<namespace>.<service account>.pem` and `.key` in one folder.

    They are loaded when first asked for. A namespace has no dot; whatever a file is called, it serves only the
    identity that its certificate carries. All of them share one bundle, and one list of those that are revoked.
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
        """Call `callback` after every replacement, with the new certificate."""
        self._callbacks.append(callback)

    def want(self, identity: Identity) -> None:
        """Read its files, if they are there and there is room; else `get` reads them, or says what is missing."""
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
        """Refresh what has been asked for, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            for store in list(self._stores.values()):
                store.refresh()
