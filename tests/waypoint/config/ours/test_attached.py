"""Every attached kind of our own can be installed, read and enforced."""

from pathlib import Path

import pytest
import yaml

from policies.filters import ORDER
from waypoint.config.kinds import KINDS
from waypoint.config.ours.attached import ATTACHED, GROUP, AttachedKind

CRDS = Path(__file__).parents[4] / "deploy" / "crds"

each_kind = pytest.mark.parametrize("kind", ATTACHED, ids=lambda it: it.name)


@each_kind
def test_a_kind_has_a_crd(kind: AttachedKind) -> None:
    crds = [yaml.safe_load(path.read_text())["spec"] for path in CRDS.glob("*.yaml")]

    assert [it["group"] for it in crds if it["names"]["kind"] == kind.name] == [GROUP]


@each_kind
def test_a_kind_is_read(kind: AttachedKind) -> None:
    assert KINDS[GROUP, kind.name] is kind.schema


def test_no_two_policies_have_one_name_in_a_dump() -> None:
    assert len(set(ORDER.values())) == len(ORDER)
