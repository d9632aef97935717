import pytest

from tests.kit.lints import places
from waypoint.ask.codes import LintCode


def rule(policy: str, host: str = "reviews", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: rule}}
spec: {{host: {host}, trafficPolicy: {policy}{more}}}
"""


DEFAULT = "{outlierDetection: {consecutive5xxErrors: 3}}"
TOLD = ["DestinationRule default/rule spec.trafficPolicy.outlierDetection"]


@pytest.mark.parametrize("host", ["reviews", "reviews.default.svc.cluster.local"])
def test_the_default_ejects_nobody_of_fewer_than_ten(host: str) -> None:
    assert places(LintCode.EJECTS_NOBODY, rule(DEFAULT, host)) == TOLD


@pytest.mark.parametrize(("percent", "told"), [(33, TOLD), (34, []), (100, []), (0, TOLD)])
def test_one_of_three_needs_34_percent(percent: int, told: list[str]) -> None:
    policy = f"{{outlierDetection: {{maxEjectionPercent: {percent}}}}}"

    assert places(LintCode.EJECTS_NOBODY, rule(policy)) == told


def test_policies_of_ports_and_of_subsets_are_looked_at() -> None:
    of_port = rule(f"{{portLevelSettings: [{{port: {{number: 80}}, {DEFAULT[1:-1]}}}]}}")
    of_subset = rule("{}", more=f", subsets: [{{name: v1, trafficPolicy: {DEFAULT}}}]")

    assert places(LintCode.EJECTS_NOBODY, of_port) == [
        "DestinationRule default/rule spec.trafficPolicy.portLevelSettings[0].outlierDetection"
    ]
    assert places(LintCode.EJECTS_NOBODY, of_subset) == [
        "DestinationRule default/rule spec.subsets[0].trafficPolicy.outlierDetection"
    ]


def test_of_a_host_that_is_not_known_and_of_no_outlier_detection_nothing_is_said() -> None:
    assert places(LintCode.EJECTS_NOBODY, rule(DEFAULT, "example.com")) == []
    assert places(LintCode.EJECTS_NOBODY, rule("{}")) == []
