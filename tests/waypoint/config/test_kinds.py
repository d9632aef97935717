import pytest

from l4.config.known_kinds import near_miss
from waypoint.config.kinds import KINDS

VERSIONS = ("v1", "v1beta1", "v1alpha3", "v1alpha2", "v1alpha1")


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_no_kind_that_is_read_is_taken_for_a_misspelled_one(group: str, kind: str) -> None:
    versions = (f"{group}/{version}" if group else version for version in VERSIONS)

    assert any(near_miss(version, kind) is None for version in versions)
