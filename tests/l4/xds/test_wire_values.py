"""Each value has one meaning."""

import pytest

from l4.discovery.workload import Scope
from l4.xds.wire_values import DISTRIBUTIONS, PROTOCOLS, SCOPES, TUNNELS, TYPES


@pytest.mark.parametrize("values", [DISTRIBUTIONS, PROTOCOLS, SCOPES, TUNNELS, TYPES])
def test_each_value_has_one_meaning(values: dict[object, object]) -> None:
    assert len(set(values.values())) == len(values)


def test_each_scope_has_a_value() -> None:
    assert set(SCOPES.values()) == set(Scope)
