"""Resources in the order in which they changed."""

import pytest

from l4._proto.xds_pb2 import DeltaDiscoveryResponse, Status
from l4.xds import offer as module
from l4.xds.offer import Described, Offer, Offered, TooOld


def offered(content: str, *keys: str) -> Offered:
    return Offered.of("t", "n", Status(message=content), keys=keys)


def offer(**contents: str) -> Offer:
    it = Offer("t")
    it.put(Described({name: offered(content) for name, content in contents.items()}, is_whole=True))
    return it


def test_a_part_is_a_response() -> None:
    its = Offered.of("t", "n", Status(message="m"), aliases=("a",), keys=("k",))

    (resource,) = DeltaDiscoveryResponse.FromString(its.part).resources
    assert (resource.name, resource.version, list(resource.aliases)) == ("n", its.version, ["a"])
    assert (resource.resource.type_url, resource.resource.value) == ("t", Status(message="m").SerializeToString())
    assert its.keys == ("a", "k")
    assert its.version == Offered.of("t", "n", Status(message="m")).version != offered("other").version


def test_what_is_the_same_is_no_change() -> None:
    it = offer(a="1", b="1")

    assert not it.put(Described({"a": offered("1")}, ("c",)))
    assert it.sequence == 1
    assert it.put(Described({"a": offered("1"), "b": offered("2")}))
    assert (it.sequence, list(it.since(1)), sorted(it.since(0))) == (2, ["b"], ["a", "b"])


def test_a_change_of_the_whole_removes_the_others() -> None:
    it = offer(a="1", b="1")

    it.put(Described({"b": offered("1")}, is_whole=True))

    assert (list(it), list(it.since(1)), it.get("a")) == (["b"], ["a"], None)


def test_each_name_stands_once_whatever_happens_to_it() -> None:
    it = offer(a="1", b="1")
    for number in range(100):
        it.put(Described({"a": offered(str(number))}))
        it.put(Described({}, ("a",)))

    assert list(it.since(1)) == ["a"]
    assert sorted(it.since(0)) == ["a", "b"]


def test_only_so_many_removals_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_GONE", 4)
    it = offer(**{f"a{number}": "1" for number in range(10)})
    for number in range(5):
        it.put(Described({}, (f"a{number}",)))

    with pytest.raises(TooOld):
        list(it.since(1))
    assert list(it.since(it.sequence - 2)) == ["a4", "a3"]
    assert len(it) == 5


def test_keys_lead_to_names_and_those_to_what_has_them_as_keys() -> None:
    it = Offer("t")
    it.put(Described({"s": offered("s", "vip"), "w1": offered("1", "s", "ip"), "w2": offered("2", "s")}))

    assert it.find("vip") == it.find("s") == {"s", "w1", "w2"}
    assert it.find("ip") == {"w1"}
    assert it.find("nothing") == set()

    it.put(Described({"w1": offered("1", "other")}))
    assert (it.find("vip"), it.find("ip"), it.find("other")) == ({"s", "w2"}, set(), {"w1"})
