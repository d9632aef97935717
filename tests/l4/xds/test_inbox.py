"""What arrives of one type: good resources, refused ones, and the doubts about them."""

import asyncio

import pytest

from l4.xds.inbox import Inbox, Kind
from l4.xds.resource import Refused, Sent
from tests.kit.aio import run

URL = "type.googleapis.com/x.Thing"


def read(content: bytes) -> str:
    if not content.startswith(b"good"):
        raise Refused("content: it is not good")
    return content.decode()


def sent(name: str, content: bytes = b"good", type_url: str = URL) -> Sent:
    return Sent(name, "v1", type_url, content)


class World:
    def __init__(self, *, is_policy: bool = False) -> None:
        self.woken = asyncio.Event()
        self.inbox: Inbox[str] = Inbox(Kind(URL, read, lambda it: it.replace("good", "ns/a"), is_policy), self.woken)

    def take(self, *changed: Sent, removed: tuple[str, ...] = ()) -> dict[str, str]:
        return dict(run(self.inbox.take(changed, removed)))


def test_what_arrives_is_kept_until_it_is_emptied() -> None:
    it = World()

    assert it.take(sent("ns/a"), sent("ns/ab", b"goodb")) == {}
    assert it.woken.is_set()
    assert it.inbox.empty() == ({"ns/a": "good", "ns/ab": "goodb"}, set())
    assert it.inbox.empty() == ({}, set())


def test_removals_and_changes_of_one_name_in_order() -> None:
    it = World()
    it.take(sent("ns/a"), removed=("ns/unknown",))
    it.take(removed=("ns/a",))
    assert it.inbox.empty() == ({}, {"ns/a"})

    it.take(sent("ns/a"))
    it.inbox.empty()
    it.take(removed=("ns/a",))
    it.take(sent("ns/a"))
    assert it.inbox.empty() == ({"ns/a": "good"}, set())


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (sent("ns/a", b"bad"), "content: it is not good"),
        (Sent("ns/a", "v1", "", b""), "it has no body"),
        (sent("ns/a", type_url="type.googleapis.com/x.Other"), "its body is a type.googleapis.com/x.Other"),
        (sent("ns/z"), "its body is that of ns/a"),
    ],
)
def test_refused_resources(resource: Sent, reason: str) -> None:
    it = World()

    assert it.take(resource, sent("ns/ab", b"goodb")) == {resource.name: reason}
    assert it.inbox.changed == {"ns/ab": "goodb"}
    (problem,) = it.inbox.problems
    assert str(problem).startswith(f"Thing {resource.name} (resourceVersion v1): it cannot be understood: {reason}")


def test_a_refused_policy_is_a_doubt_that_denies_its_namespace() -> None:
    it = World(is_policy=True)

    it.take(sent("ns/a", b"bad"))

    (doubt,) = it.inbox.doubts
    assert (doubt.has_last_good, doubt.namespace, doubt.is_policy) == (False, "ns", True)
    assert "all access to the workloads of its namespace is denied" in doubt.problem.sentence
    assert it.inbox.problems == ()


def test_any_other_refused_resource_is_a_problem_and_no_doubt() -> None:
    it = World()

    it.take(sent("ns/a", b"bad"))

    assert it.inbox.doubts == ()
    assert len(it.inbox.problems) == 1


def test_a_last_good_version_stays_and_the_doubt_ends_with_the_next_one_or_a_removal() -> None:
    it = World(is_policy=True)
    it.take(sent("ns/a"))
    it.inbox.empty()

    it.take(sent("ns/a", b"bad"))
    (doubt,) = it.inbox.doubts
    assert doubt.has_last_good
    assert doubt.problem.sentence.endswith("; its last good version stays in force")
    assert it.inbox.empty() == ({}, set())

    it.take(sent("ns/a"))
    assert it.inbox.doubts == ()
    it.take(sent("ns/a", b"bad"))
    it.take(removed=("ns/a",))
    assert it.inbox.doubts == ()
    assert it.inbox.gone == {"ns/a"}


def test_many_resources_are_converted_beside_the_loop() -> None:
    it = World()

    async def scenario() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.get_running_loop().create_task(count())
        await it.inbox.take([sent("ns/a", b"bad")] * 5000, ())
        counting.cancel()
        return turns

    assert run(scenario()) > 1
