import pytest

from policies.matching import Regex
from policies.path_match import ANY_PATH, PathKind, PathMatch

V2_PREFIX = PathMatch(PathKind.PREFIX, b"/v2")


@pytest.mark.parametrize(
    ("match", "accepted", "refused"),
    [
        pytest.param(PathMatch(PathKind.EXACT, b"/v2"), [b"/v2"], [b"/v2/", b"/V2"], id="exact"),
        pytest.param(V2_PREFIX, [b"/v2", b"/v2/", b"/v2/x"], [b"/v20", b"/", b"/V2"], id="prefix"),
        pytest.param(PathMatch(PathKind.PREFIX, b"/v2/"), [b"/v2", b"/v2/x"], [b"/v20"], id="prefix with a slash"),
        pytest.param(PathMatch(PathKind.TEXT_PREFIX, b"/v2"), [b"/v2", b"/v20"], [b"/v1"], id="text prefix"),
        pytest.param(
            PathMatch(PathKind.REGEX, b"/v[12]", Regex.parse("/v[12]")), [b"/v1", b"/v2"], [b"/v1/x"], id="regex"
        ),
        pytest.param(ANY_PATH, [b"/", b"/x", b"*"], [], id="any"),
    ],
)
def test_each_kind_accepts_its_own_paths(match: PathMatch, accepted: list[bytes], refused: list[bytes]) -> None:
    assert all(map(match.accepts, accepted))
    assert not any(map(match.accepts, refused))


@pytest.mark.parametrize("kind", [PathKind.EXACT, PathKind.PREFIX, PathKind.TEXT_PREFIX])
def test_case_is_ignored_where_that_is_asked_for(kind: PathKind) -> None:
    assert PathMatch(kind, b"/v2", ignores_case=True).accepts(b"/V2")
