"""The chart, by the real Helm: what it refuses, and what it leaves behind."""

import pytest

from tests.cluster.mesh import CHART, helm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_helm_finds_nothing_wrong() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("controller.replica=3", "additional properties 'replica' not allowed"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("trustDomain=Not a domain", "/trustDomain"),
    ],
)
def test_a_value_that_does_not_exist_is_refused_by_name(value: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        helm("template", "pywaypoint", str(CHART), f"--set={value}")


def test_with_another_authority_the_controller_may_not_sign() -> None:
    made = helm("template", "pywaypoint", str(CHART), "--set=ca.address=istiod.istio-system.svc:15012")

    assert "--ca-address=istiod.istio-system.svc:15012" in made
    assert not [it for it in ("--sign", "[secrets]", "tokenreviews", "pywaypoint-ca") if it in made]
