import asyncio
import logging
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from l4.identity import files
from l4.identity.certificate import Certificate, InvalidCertificate
from l4.identity.files import FileStore, FolderStore
from l4.identity.source import NoCertificate, WorkloadCertificate
from policies.attributes import Identity
from tests.kit.aio import run
from tests.kit.certificates import HOUR, MeshPki
from tests.kit.mesh import settled

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")
RATINGS = Identity("cluster.local", "bookinfo", "ratings")


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pki(tmp_path: Path) -> MeshPki:
    return MeshPki(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(pki: MeshPki, clock: Clock) -> FileStore:
    chain = pki.write(REVIEWS)
    store = FileStore(chain, chain.with_suffix(".key"), pki.bundle_path, poll_seconds=0.01, clock=clock)
    store.load()
    return store


@pytest.fixture
def folder(pki: MeshPki, clock: Clock) -> FolderStore:
    return FolderStore(pki.folder, pki.bundle_path, poll_seconds=0.01, max_identities=2, clock=clock)


def refresh(store: FileStore) -> None:
    run(store.refresh())


def test_loading_says_which_file_is_missing(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "a.pem", tmp_path / "a.key", tmp_path / "root.pem")

    with pytest.raises(InvalidCertificate, match=r"a\.pem: cannot be read"):
        store.load()
    with pytest.raises(NoCertificate, match="has not been loaded"):
        store.get(REVIEWS)


def test_a_store_serves_its_own_identity_and_no_other(store: FileStore) -> None:
    assert store.get(REVIEWS) is store.current

    with pytest.raises(NoCertificate, match=r"sa/ratings: .* contains the certificate of .*sa/reviews"):
        store.get(RATINGS)


def test_unchanged_files_are_not_loaded_again(store: FileStore) -> None:
    before = store.current

    refresh(store)

    assert store.current is before


def test_a_new_pair_replaces_the_old_one_and_those_who_asked_are_told(pki: MeshPki, store: FileStore) -> None:
    told: list[WorkloadCertificate] = []
    store.on_change(told.append)
    before = store.current

    pki.write(REVIEWS)
    refresh(store)

    assert store.current.certificate.serial != before.certificate.serial
    assert told == [store.current]


def test_a_new_trust_bundle_is_taken_with_the_same_pair(tmp_path: Path, pki: MeshPki, store: FileStore) -> None:
    other = MeshPki(tmp_path / "other")

    pki.bundle_path.write_bytes(pki.root_pem + other.root_pem)
    refresh(store)

    assert store.current.certificate.trust_bundle_pem == pki.root_pem + other.root_pem


def test_a_half_written_pair_keeps_the_old_one_until_it_is_whole(
    pki: MeshPki, store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    before, pair = store.current, pki.leaf([str(REVIEWS)])
    chain = pki.folder / "bookinfo.reviews.pem"

    chain.write_bytes(pair.chain_pem)
    refresh(store)
    refresh(store)

    assert store.current is before
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "said once, not at every poll"
    assert "the key does not belong" in caplog.text

    chain.with_suffix(".key").write_bytes(pair.key_pem)
    refresh(store)

    assert store.current is not before


def test_what_cannot_be_used_is_shown_until_it_can_be(pki: MeshPki, store: FileStore) -> None:
    chain = pki.folder / "bookinfo.reviews.pem"

    chain.write_bytes(b"garbage")
    refresh(store)

    assert store.concern.startswith(
        f"the old certificate of {REVIEWS} stays in use, because the new one cannot be loaded: "
    )
    assert store.concern.endswith("bookinfo.reviews.pem: contains no valid PEM certificate")
    pki.write(REVIEWS)
    refresh(store)
    assert store.concern == ""


def test_another_identitys_certificate_is_not_taken_told_once_and_shown(
    pki: MeshPki, store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    before, told = store.current, list[WorkloadCertificate]()
    store.on_change(told.append)

    pki.write(REVIEWS, pki.leaf([str(RATINGS)]))
    refresh(store)
    refresh(store)

    assert store.current is before
    assert store.get(REVIEWS) is before
    assert not told
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"now contains the certificate of {RATINGS}; restore {REVIEWS} or restart" in store.concern


@pytest.mark.parametrize("left", [0, 1], ids=["none is left", "one is left"])
def test_a_renewal_without_file_descriptors_is_tried_again(pki: MeshPki, store: FileStore, left: int) -> None:
    before = store.current
    pki.write(REVIEWS)

    async def scenario() -> tuple[WorkloadCertificate, str]:
        with few_descriptors(left):
            await store.refresh()
            await store.refresh()
        return store.current, store.concern

    kept, concern = run(scenario())
    refresh(store)

    assert kept is before
    assert "Too many open files" in concern
    assert store.current is not before
    assert store.concern == ""


@contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """So many more may be opened, and none else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, hard))
    fillers = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(fillers.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in fillers:
            os.close(descriptor)


def test_a_vanished_file_keeps_the_old_pair(pki: MeshPki, store: FileStore) -> None:
    before = store.current

    (pki.folder / "bookinfo.reviews.key").unlink()
    refresh(store)

    assert store.current is before


def test_an_expired_certificate_is_not_served(store: FileStore, clock: Clock) -> None:
    assert 0 < store.current.seconds_left(clock.now) <= HOUR.total_seconds()

    clock.now += HOUR.total_seconds()

    with pytest.raises(NoCertificate, match="expired at"):
        store.get(REVIEWS)


def test_somebody_is_warned_once_when_a_certificate_has_little_of_its_life_left(
    pki: MeshPki, store: FileStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.now += 0.5 * HOUR.total_seconds()
    refresh(store)
    assert store.concern == ""

    clock.now += 0.2 * HOUR.total_seconds()
    with caplog.at_level(logging.WARNING):
        refresh(store)
        refresh(store)

    assert f"{REVIEWS} expires at" in store.concern
    assert [record.getMessage() for record in caplog.records] == [store.concern]
    pki.write(REVIEWS, pki.leaf([str(REVIEWS)], ends=3 * HOUR))
    refresh(store)
    assert store.concern == ""


def test_with_an_expired_certificate_we_speak_to_nobody_and_say_so(store: FileStore, clock: Clock) -> None:
    assert store.get(REVIEWS) is store.current

    clock.now += HOUR.total_seconds()

    assert store.seconds_left <= 0
    assert "no connection is possible" in store.concern
    with pytest.raises(NoCertificate):
        store.get(REVIEWS)


def test_a_list_of_revoked_certificates_is_taken_when_it_changes_and_only_whole(
    pki: MeshPki, caplog: pytest.LogCaptureFixture
) -> None:
    chain, bad = pki.write(REVIEWS), pki.leaf([str(RATINGS)])
    store = FileStore(chain, chain.with_suffix(".key"), pki.bundle_path, pki.revoke())
    store.load()

    pki.revoke(bad)
    refresh(store)
    (pki.folder / "revoked.pem").write_bytes(b"")
    refresh(store)

    assert store.current.revocations is not None
    assert store.current.revocations.has(bad.der)
    assert "contains no revocation list" in caplog.text


def test_what_has_changed_is_read_in_a_thread(pki: MeshPki, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of 20,000 revoked certificates would stop the event loop for 0.4 s at each renewal."""
    before, threads, load = store.current, list[int](), files.load

    def noting(chain: Path, key: Path, bundle: Path, *, now: float | None = None) -> Certificate:
        threads.append(threading.get_ident())
        return load(chain, key, bundle, now=now)

    monkeypatch.setattr(files, "load", noting)
    pki.write(REVIEWS)
    refresh(store)
    refresh(store)

    assert store.current is not before
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_watching_notices_a_change(pki: MeshPki, store: FileStore) -> None:
    async def scenario() -> WorkloadCertificate:
        changed = asyncio.get_running_loop().create_future()
        store.on_change(changed.set_result)
        watching = asyncio.create_task(store.watch())
        pki.write(REVIEWS)
        renewed: WorkloadCertificate = await changed
        watching.cancel()
        return renewed

    assert run(scenario()) is store.current


def test_a_folder_serves_each_identity_from_its_own_files(pki: MeshPki, folder: FolderStore) -> None:
    for identity in (REVIEWS, RATINGS):
        pki.write(identity)

    assert folder.get(REVIEWS).identity == REVIEWS
    assert folder.get(RATINGS).identity == RATINGS
    assert folder.get(REVIEWS) is folder.get(REVIEWS)


def test_a_folder_says_which_file_it_misses_and_finds_it_once_it_is_there(pki: MeshPki, folder: FolderStore) -> None:
    with pytest.raises(NoCertificate, match=r"bookinfo\.reviews\.pem: cannot be read: No such file"):
        folder.get(REVIEWS)

    pki.write(REVIEWS)

    assert folder.get(REVIEWS).identity == REVIEWS


def test_a_file_name_is_no_proof_of_identity(pki: MeshPki, folder: FolderStore) -> None:
    pki.write(REVIEWS, pki.leaf([str(RATINGS)]))

    with pytest.raises(NoCertificate, match=r"contains the certificate of .*sa/ratings"):
        folder.get(REVIEWS)


def test_a_folder_holds_a_bounded_number_and_drops_the_one_asked_for_longest_ago(
    pki: MeshPki, folder: FolderStore
) -> None:
    identities = [Identity("cluster.local", "bookinfo", name) for name in ("a", "b", "c")]
    for identity in identities:
        pki.write(identity)
    first, second, third = identities
    kept, dropped = folder.get(first), folder.get(second)

    folder.get(first)
    folder.get(third)

    assert folder.get(first) is kept
    assert folder.get(second) is not dropped


def test_a_folder_tells_how_long_the_first_certificate_is_good_for(
    pki: MeshPki, folder: FolderStore, clock: Clock
) -> None:
    pki.write(REVIEWS)
    pki.write(RATINGS, pki.leaf([str(RATINGS)], ends=HOUR / 2))

    assert folder.seconds_left is None
    folder.get(REVIEWS)
    assert folder.seconds_left == pytest.approx(3600, abs=60)
    folder.get(RATINGS)
    assert folder.seconds_left == pytest.approx(1800, abs=60)


def test_a_folder_shares_one_list_of_revoked_certificates_and_tells_whom_it_changes(pki: MeshPki) -> None:
    folder = FolderStore(pki.folder, pki.bundle_path, pki.revoke(), poll_seconds=0.01)
    told: list[Identity] = []
    folder.on_change(lambda renewed: told.append(renewed.identity))
    bad = pki.leaf([str(RATINGS)])
    for identity in (REVIEWS, RATINGS):
        pki.write(identity)
        assert folder.get(identity).revocations is not None

    async def scenario() -> None:
        both = asyncio.Event()
        folder.on_change(lambda _: both.set() if len(told) == 2 else None)
        watching = asyncio.create_task(folder.watch())
        pki.revoke(bad)
        await both.wait()
        watching.cancel()

    run(scenario())

    assert set(told) == {REVIEWS, RATINGS}
    revocations = folder.get(REVIEWS).revocations
    assert revocations is not None
    assert revocations.has(bad.der)


def test_a_watched_folder_renews_what_was_asked_for(pki: MeshPki, folder: FolderStore) -> None:
    pki.write(REVIEWS)
    before = folder.get(REVIEWS)

    async def scenario() -> None:
        watching = asyncio.create_task(folder.watch())
        pki.write(REVIEWS)
        while folder.get(REVIEWS) is before:  # noqa: ASYNC110 - a folder has no event to wait for, and needs none
            await asyncio.sleep(0.005)
        watching.cancel()

    run(scenario(), seconds=5)


def test_a_folder_keeps_to_each_identity_and_shows_what_is_wrong(pki: MeshPki, folder: FolderStore) -> None:
    for identity in (REVIEWS, RATINGS):
        pki.write(identity)
    before = {identity: folder.get(identity) for identity in (REVIEWS, RATINGS)}

    pki.write(REVIEWS, pki.leaf([str(RATINGS)]))
    (pki.folder / "bookinfo.ratings.key").write_bytes(b"garbage")

    async def scenario() -> None:
        watching = asyncio.create_task(folder.watch())
        await settled(lambda: "; restore " in folder.concern and "bookinfo.ratings.key" in folder.concern)
        watching.cancel()

    run(scenario())
    assert {identity: folder.get(identity) for identity in (REVIEWS, RATINGS)} == before


def test_a_folder_forgets_the_certificates_of_workloads_that_are_gone(
    pki: MeshPki, folder: FolderStore, clock: Clock
) -> None:
    for identity, ends in ((REVIEWS, HOUR), (RATINGS, 2 * HOUR)):
        pki.write(identity, pki.leaf([str(identity)], ends=ends))
        folder.get(identity)
    clock.now += 0.95 * HOUR.total_seconds()
    assert str(REVIEWS) in folder.concern

    folder.forget(REVIEWS)

    assert folder.concern == ""
    assert folder.seconds_left is not None
    assert folder.seconds_left > 0.5 * HOUR.total_seconds()


def test_a_folder_reads_at_once_what_is_wanted_while_there_is_room(pki: MeshPki, folder: FolderStore) -> None:
    a, b, c = (Identity("cluster.local", "bookinfo", name) for name in ("a", "b", "c"))
    folder.want(a)
    assert folder.seconds_left is None
    for identity in (a, b, c):
        pki.write(identity)

    folder.want(a)
    kept = folder.get(a)
    for identity in (b, c, a, b, c):
        folder.want(identity)

    assert folder.seconds_left is not None
    assert folder.get(a) is kept
    assert folder.get(c).identity == c
