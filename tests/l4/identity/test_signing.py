"""A source that asks an authority: when it asks, what it takes, and what it serves meanwhile."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from l4.identity import signing
from l4.identity.authority import AuthorityError, DevelopmentAuthority, SignedChain
from l4.identity.signing import AuthoritySource
from l4.identity.source import CertificateAwaited, NoCertificate, WorkloadCertificate
from l4.net.tasks import Tasks
from policies.attributes import Identity
from tests.kit.certificates import MeshPki
from tests.kit.virtual_time import run_virtually

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")
RATINGS = Identity("cluster.local", "bookinfo", "ratings")
LIFE = 1000.0


class Signer:
    """An authority that takes its time, and fails, as it is told to."""

    def __init__(self, folder: Path) -> None:
        self.began = time.time()
        self.authority = DevelopmentAuthority(folder / "ca", LIFE, self.now)
        self.takes = 0.1
        self.failure: BaseException | None = None
        self.answer: Callable[[SignedChain], SignedChain] = lambda signed: signed
        self.asked: list[tuple[float, Identity]] = []
        self.under_way = 0
        self.most_under_way = 0

    def now(self) -> float:
        try:
            return self.began + asyncio.get_running_loop().time()
        except RuntimeError:
            return self.began

    async def sign(self, identity: Identity, csr_pem: bytes) -> SignedChain:
        self.asked.append((asyncio.get_running_loop().time(), identity))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes)
            if self.failure is not None:
                raise self.failure
            return self.answer(await self.authority.sign(identity, csr_pem))
        finally:
            self.under_way -= 1


@asynccontextmanager
async def watched(source: AuthoritySource) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(source.watch())
    try:
        yield
        assert not task.done(), "the loop has ended"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


def scenario(signer: Signer, body: Callable[[AuthoritySource], Coroutine[Any, Any, None]], **more: Any) -> None:
    async def with_source() -> None:
        source = AuthoritySource(signer, clock=signer.now, **more)
        async with watched(source):
            await body(source)

    run_virtually(with_source())


def test_a_certificate_is_there_once_it_is_wanted_and_signed(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        told: list[WorkloadCertificate] = []
        source.on_change(told.append)
        with pytest.raises(NoCertificate, match="it was not requested"):
            source.get(REVIEWS)

        source.want(REVIEWS)
        source.want(REVIEWS)
        with pytest.raises(CertificateAwaited):
            source.get(REVIEWS)
        assert source.seconds_left is None
        await asyncio.sleep(0.2)

        assert told == [source.get(REVIEWS)]
        assert source.get(REVIEWS).identity == REVIEWS
        assert len(signer.asked) == 1
        assert source.seconds_left == pytest.approx(LIFE, abs=2)
        assert source.concern == ""

    scenario(signer, body)


def test_each_request_has_a_key_of_its_own_that_is_not_shown(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        source.want(REVIEWS)
        await asyncio.sleep(0.2)
        first = source.get(REVIEWS).certificate
        await asyncio.sleep(LIFE / 2)
        second = source.get(REVIEWS).certificate

        assert first.private_key.pem != second.private_key.pem
        assert "PRIVATE" not in f"{first} {first!r} {vars(source)}"

    scenario(signer, body)


def test_certificates_are_renewed_by_half_of_their_life_and_not_all_at_once(signer: Signer) -> None:
    identities = [Identity("cluster.local", "n", f"a{number}") for number in range(50)]

    async def body(source: AuthoritySource) -> None:
        for identity in identities:
            source.want(identity)
        await asyncio.sleep(5)
        assert len(signer.asked) == len(identities)
        await asyncio.sleep(0.39 * LIFE - 5)
        assert len(signer.asked) == len(identities)
        await asyncio.sleep(0.12 * LIFE)

        renewed = [moment for moment, _ in signer.asked[len(identities) :]]
        assert len(renewed) == len(identities)
        assert max(renewed) - min(renewed) > 0.05 * LIFE
        assert source.concern == ""

    scenario(signer, body)


def test_requests_under_way_are_few_and_who_has_no_certificate_goes_first(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        for number in range(200):  # renewed within a tenth of their life, which 8 requests of 8 s can't do
            source.want(Identity("cluster.local", "old", f"a{number}"))
        await asyncio.sleep(5)
        signer.takes = 8.0
        await asyncio.sleep(0.45 * LIFE)
        assert signer.under_way == signing.MAX_REQUESTS
        before = len(signer.asked)
        source.want(REVIEWS)
        await asyncio.sleep(10)

        assert signer.most_under_way == signing.MAX_REQUESTS
        assert signer.asked[before][1] == REVIEWS

    scenario(signer, body)


def test_the_last_good_certificate_serves_until_it_expires_and_no_longer(
    signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(source: AuthoritySource) -> None:
        source.want(REVIEWS)
        await asyncio.sleep(0.2)
        good = source.get(REVIEWS)
        signer.failure = AuthorityError("the authority is at lunch")
        await asyncio.sleep(0.9 * LIFE)

        assert source.get(REVIEWS) is good
        assert f"the certificate of {REVIEWS} cannot be renewed and expires at" in source.concern
        assert "at lunch" in source.concern
        warnings = [it for it in caplog.records if it.levelno == logging.WARNING]
        assert len(warnings) == 1, "told once, not at every attempt"
        await asyncio.sleep(0.11 * LIFE)
        with pytest.raises(NoCertificate, match=r"expired at .* at lunch"):
            source.get(REVIEWS)
        assert "no connection is possible" in source.concern

        signer.failure = None
        await asyncio.sleep(signing.MAX_NEEDED_PAUSE_SECONDS + 2)
        assert source.get(REVIEWS) is not good
        assert source.concern == ""

    scenario(signer, body)


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (AuthorityError("no"), "no"),
        (ValueError("odd"), r"the request to the authority failed: ValueError\('odd'\)"),
        (asyncio.CancelledError(), "the request to the authority was cancelled"),
        (TimeoutError(), "did not answer within 10 s"),
    ],
)
def test_whatever_the_authority_raises_is_tried_again_after_pauses_that_grow(
    signer: Signer, failure: BaseException, sentence: str
) -> None:
    async def body(source: AuthoritySource) -> None:
        signer.failure = failure
        source.want(REVIEWS)
        await asyncio.sleep(2000)

        with pytest.raises(NoCertificate, match=sentence) as caught:
            source.get(REVIEWS)
        assert not isinstance(caught.value, CertificateAwaited)
        moments = [moment for moment, _ in signer.asked]
        pauses = [after - before for before, after in pairwise(moments)]
        assert pauses[0] < 1
        assert max(pauses) <= signing.MAX_NEEDED_PAUSE_SECONDS + 2
        assert min(pauses[-5:]) > 10

    scenario(signer, body)


def test_while_there_is_a_valid_certificate_pauses_grow_further(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        source.want(REVIEWS)
        await asyncio.sleep(1)
        signer.failure, first = AuthorityError("no"), len(signer.asked)
        await asyncio.sleep(0.9 * LIFE)

        moments = [moment for moment, _ in signer.asked[first:]]
        pauses = [after - before for before, after in pairwise(moments)]
        assert pauses[0] < 1
        assert 100 < max(pauses) <= signing.MAX_PAUSE_SECONDS + 2

    scenario(signer, body)


def test_an_authority_that_never_answers_holds_up_nobody_else(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        signer.takes = 3600.0
        source.want(REVIEWS)
        await asyncio.sleep(1)
        signer.takes = 0.1
        source.want(RATINGS)
        await asyncio.sleep(1)

        assert source.get(RATINGS).identity == RATINGS
        await asyncio.sleep(signing.REQUEST_SECONDS)
        assert source.get(REVIEWS).identity == REVIEWS, "asked again, when the first request has taken too long"

    scenario(signer, body)


def _other_key(signed: SignedChain, pki: MeshPki) -> SignedChain:
    return SignedChain(pki.leaf([str(REVIEWS)]).chain_pem, signed.trust_bundle_pem)


def _no_roots(signed: SignedChain, pki: MeshPki) -> SignedChain:
    return SignedChain(signed.chain_pem, b"")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_other_key, "the key does not belong to the first certificate of the authority's certificate chain"),
        (_no_roots, "the authority's trust bundle: contains no valid PEM certificate"),
    ],
)
def test_an_answer_that_does_not_fit_replaces_nothing(
    tmp_path: Path, signer: Signer, spoil: Callable[[SignedChain, MeshPki], SignedChain], sentence: str
) -> None:
    pki = MeshPki(tmp_path / "other")

    async def body(source: AuthoritySource) -> None:
        source.want(REVIEWS)
        await asyncio.sleep(0.2)
        good = source.get(REVIEWS)
        signer.answer = lambda signed: spoil(signed, pki)
        await asyncio.sleep(0.6 * LIFE)

        assert source.get(REVIEWS) is good
        assert sentence in source.concern

    scenario(signer, body)


class Mistaken:
    """An authority that signs the right key for the wrong identity."""

    def __init__(self, pki: MeshPki) -> None:
        self._pki = pki

    async def sign(self, identity: Identity, csr_pem: bytes) -> SignedChain:
        request = x509.load_pem_x509_csr(csr_pem)
        return SignedChain(
            self._pki.leaf([str(RATINGS)], public_key=request.public_key()).chain_pem, self._pki.root_pem
        )


def test_an_answer_for_another_identity_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        source = AuthoritySource(Mistaken(MeshPki(tmp_path)))
        async with watched(source):
            source.want(REVIEWS)
            await asyncio.sleep(0.2)

            with pytest.raises(NoCertificate, match=f"is for {RATINGS}, not for {REVIEWS}"):
                source.get(REVIEWS)

    run_virtually(body())


def test_whoever_is_told_and_fails_ends_the_loop_which_goes_on_when_it_is_begun_again(signer: Signer) -> None:
    async def body() -> None:
        source, told, failed = AuthoritySource(signer, clock=signer.now), list[Identity](), list[str]()

        def fails_once(renewed: WorkloadCertificate) -> None:
            told.append(renewed.identity)
            if len(told) == 1:
                raise OSError("made to fail")

        source.on_change(fails_once)
        tasks = Tasks(failed.append)
        tasks.keep("certificates", source.watch)
        identities = [Identity("cluster.local", "n", f"a{number}") for number in range(20)]
        for identity in identities:
            source.want(identity)
        await asyncio.sleep(5)

        assert failed == ["certificates"]
        assert {source.get(identity).identity for identity in identities} == set(identities) == set(told)
        assert signer.under_way == 0
        await asyncio.sleep(LIFE)
        assert {source.get(identity).identity for identity in identities} == set(identities)
        await tasks.close()

    run_virtually(body())


def test_who_is_forgotten_is_renewed_no_more_and_an_answer_under_way_is_dropped(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        told: list[WorkloadCertificate] = []
        source.on_change(told.append)
        signer.takes = 5.0
        source.want(REVIEWS)
        await asyncio.sleep(1)

        source.forget(REVIEWS)
        source.forget(REVIEWS)
        await asyncio.sleep(2 * LIFE)

        assert not told
        assert len(signer.asked) == 1
        assert signer.under_way == 0
        with pytest.raises(NoCertificate, match="not requested"):
            source.get(REVIEWS)
        source.want(REVIEWS)
        await asyncio.sleep(6)
        assert source.get(REVIEWS).identity == REVIEWS

    scenario(signer, body)


def test_no_more_identities_are_kept_than_the_limit_and_it_says_so(signer: Signer) -> None:
    async def body(source: AuthoritySource) -> None:
        source.want(REVIEWS)
        source.want(RATINGS)
        with pytest.raises(NoCertificate, match="more than 1 identities are wanted"):
            source.get(RATINGS)
        assert "more than 1 identities" in source.concern

        source.forget(REVIEWS)
        source.want(RATINGS)
        await asyncio.sleep(1)

        assert source.get(RATINGS).identity == RATINGS
        assert source.concern == ""

    scenario(signer, body, max_identities=1)


def test_an_authority_that_signs_for_a_moment_only_is_asked_once_a_second_at_most(signer: Signer) -> None:
    signer.authority = DevelopmentAuthority(signer.authority.bundle_path.parent, 2, signer.now)

    async def body(source: AuthoritySource) -> None:
        source.want(REVIEWS)
        await asyncio.sleep(20)

        assert len(signer.asked) <= 20

    scenario(signer, body)


def test_a_list_of_revocations_is_followed_and_awaited(tmp_path: Path, signer: Signer) -> None:
    pki = MeshPki(tmp_path / "pki")
    path, bad = tmp_path / "pki" / "revoked.pem", pki.leaf([str(RATINGS)])

    async def body(source: AuthoritySource) -> None:
        told: list[WorkloadCertificate] = []
        source.on_change(told.append)
        source.want(REVIEWS)
        await asyncio.sleep(30)
        with pytest.raises(NoCertificate, match="cannot be read"):
            source.get(REVIEWS)
        assert not signer.asked

        pki.revoke()
        await asyncio.sleep(2)
        first = source.get(REVIEWS)
        pki.revoke(bad)
        await asyncio.sleep(2)
        path.write_bytes(b"")
        await asyncio.sleep(2)

        assert len(signer.asked) == 1
        assert told == [first, source.get(REVIEWS)]
        revocations = source.get(REVIEWS).revocations
        assert revocations is not None
        assert revocations.has(bad.der)
        assert "contains no revocation list" in source.concern

    scenario(signer, body, revocations_path=path)
