"""At most one of two processes leads, and one does soon after the other is gone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Trust
from l4.kubernetes.lease import LEASES, LeaderElection, Times
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.l4.kubernetes.test_client import Given

PATH = LEASES.path("ns", "it")
PATIENT = Times(lease_seconds=40.0, renew_seconds=20.0, retry_seconds=0.05)
"""A busy machine loses no Lease."""
HASTY = Times(lease_seconds=3.0, renew_seconds=2.0, retry_seconds=0.05)
EARLY = Times(lease_seconds=40.0, renew_seconds=1.0, retry_seconds=0.05)


@dataclass
class Candidate:
    """A process that notes when it leads."""

    server: KubernetesServer
    name: str
    times: Times
    leads: bool = False
    fails: asyncio.Event = field(default_factory=asyncio.Event)
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = ApiClient(Credentials(self.server.address, Trust(), Given()))
        self.election = LeaderElection(self.client, "ns", "it", self.name, self.times)
        self.running = asyncio.ensure_future(self.election.run(self.lead))

    async def lead(self) -> None:
        self.leads = True
        try:
            await self.fails.wait()
            raise ValueError("work failed")
        finally:
            self.leads = False

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.client.close()

    async def die(self) -> None:
        """Without giving the Lease back."""
        self.election.is_leader = False
        await self.end()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def scenario(test: Callable[[KubernetesServer, Candidate, Candidate], Awaitable[None]], times: Times = PATIENT) -> None:
    async def all_of_it() -> None:
        async with kubernetes_server() as server:
            first = Candidate(server, "first", times)
            await until(lambda: first.leads)
            second = Candidate(server, "second", times)
            try:
                await test(server, first, second)
            finally:
                await first.end()
                await second.end()

    run(all_of_it(), 60)


def seen(server: KubernetesServer, method: str) -> int:
    return sum(it.startswith(method) for it in server.requests)


def test_one_leads_and_renews_and_the_other_waits() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        patches = seen(server, "PATCH")
        await until(lambda: seen(server, "PATCH") > patches + 5)

        assert first.leads
        assert not second.leads
        spec = server.objects[PATH]["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("first", 40, 0)

    scenario(test)


def test_an_orderly_end_gives_the_lease_to_the_next_at_once() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        await first.end()
        assert server.objects[PATH]["spec"].get("holderIdentity") != "first"  # the second may have it already
        await until(lambda: second.leads)

        assert server.objects[PATH]["spec"]["leaseTransitions"] == 1

    scenario(test)


def test_the_lease_of_a_dead_leader_is_taken_after_its_time() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        began = asyncio.get_running_loop().time()
        await first.die()
        await until(lambda: second.leads)

        assert asyncio.get_running_loop().time() - began > HASTY.renew_seconds

    scenario(test, HASTY)


def test_a_leader_that_cannot_renew_stops_before_another_may_lead() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        server.tokens = {"nobody's"}
        renewed = first.election._renewed
        await until(lambda: not first.leads)

        assert first.election._clock() - max(renewed, first.election._renewed) < EARLY.lease_seconds
        assert not second.leads
        server.tokens = set()
        await until(lambda: first.leads or second.leads)
        assert not (first.leads and second.leads)

    scenario(test, EARLY)


def test_a_lease_that_somebody_else_holds_ends_the_leader_and_what_others_wrote_stays() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        taken = {"metadata": {"labels": {"mine": "yes"}}, "spec": {"holderIdentity": "third", "leaseTransitions": 4}}
        server.put(PATH, taken)
        await until(lambda: not first.leads)
        await until(lambda: first.leads or second.leads)

        assert server.objects[PATH]["metadata"]["labels"] == {"mine": "yes"}
        assert server.objects[PATH]["spec"]["leaseTransitions"] == 5

    scenario(test, HASTY)


def test_a_conflict_does_not_end_a_leader_that_still_holds_the_lease() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        work = first.election.is_leader, first.running
        server.refusals = [(409, "Conflict", {})] * 3
        patches = seen(server, "PATCH")
        await until(lambda: not server.refusals and seen(server, "PATCH") > patches + 3)

        assert work == (True, first.running)
        assert first.leads
        assert not second.leads

    scenario(test)


def test_an_error_of_the_work_ends_the_run_and_gives_the_lease_back() -> None:
    async def test(server: KubernetesServer, first: Candidate, second: Candidate) -> None:
        first.fails.set()

        with pytest.raises(ValueError, match="work failed"):
            await first.running
        await until(lambda: second.leads)

    scenario(test)
