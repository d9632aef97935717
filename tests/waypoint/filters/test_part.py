"""Which methods of a part are called: those that its class, or a class between, overrides."""

from policies.attributes import Headers, ResponseHead
from policies.balancing.endpoint import Endpoint
from waypoint.filters.part import Part


class Marks(Part):
    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        head.headers.append((b"x-marked", b"yes"))


class MarksAndAdds(Marks):
    def request_end(self, trailers: Headers) -> bytes:
        return b"more"


class Nothing(Part):
    pass


def test_a_part_names_what_it_overrides_itself_or_by_a_base() -> None:
    assert Nothing.hooks == frozenset()
    assert Marks.hooks == {"response_head"}
    assert MarksAndAdds.hooks == {"response_head", "request_end"}


def test_every_method_of_a_part_can_be_a_hook() -> None:
    methods = {name: value for name, value in vars(Part).items() if callable(value) and not name.startswith("_")}

    class All(Part):
        locals().update({name: lambda *_: None for name in methods})

    assert All.hooks == set(methods)
