from pathlib import Path

import pytest

from l4.config.settings import Settings
from policies.path_normalization import PathNormalization
from policies.value_match import Paths
from tests.kit.lints import MESH, lints, places
from waypoint.ask.analyze import analyze
from waypoint.ask.codes import LintCode
from waypoint.ask.load import load
from waypoint.http.settings import HttpSettings


def policy(operation: str, action: str = "DENY") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p}}
spec:
  targetRefs: [{{kind: Service, name: reviews}}]
  action: {action}
  {"provider: {name: a}" if action == "CUSTOM" else ""}
  rules: [{{to: [{{operation: {operation}}}]}}]
"""


@pytest.mark.parametrize(
    ("operation", "action", "is_open"),
    [
        ("{paths: [/admin]}", "DENY", True),
        ("{paths: [/admin*]}", "DENY", True),
        ("{paths: ['/admin/{**}']}", "DENY", True),
        ("{paths: [/admin]}", "CUSTOM", True),
        ("{paths: [/*]}", "DENY", False),
        ("{paths: ['*']}", "DENY", False),
        ("{paths: [/admin]}", "AUDIT", False),
        ("{methods: [GET]}", "DENY", False),
        ("{notPaths: [/public/*]}", "DENY", True),
        ("{notPaths: [/public]}", "DENY", False),
        ("{paths: [/public/*]}", "ALLOW", True),
        ("{paths: [/public]}", "ALLOW", False),
        ("{paths: [/*]}", "ALLOW", False),
        ("{notPaths: [/admin]}", "ALLOW", True),
    ],
)
def test_a_policy_is_told_that_another_spelling_gets_past_it(operation: str, action: str, is_open: bool) -> None:
    found = places(LintCode.PATH_LEFT_OPEN, policy(operation, action))

    field = operation[1:].partition(":")[0]
    assert found == ([f"AuthorizationPolicy default/p spec.rules[0].to[0].operation.{field}[0]"] if is_open else [])


def test_what_is_told_gets_past_indeed_and_the_setting_that_is_named_closes_it() -> None:
    (it,) = [it for it in lints(policy("{paths: [/admin]}")) if it.code is LintCode.PATH_LEFT_OPEN]
    told = it.sentence.removeprefix("requests for ").partition(" are not covered")[0].split(", ")

    assert set(told) == {"/%2Fadmin", "/ADMIN", "//admin"}
    assert "PATH_NORMALIZATION=DECODE_AND_MERGE_SLASHES" in it.sentence
    base, closed = PathNormalization("BASE"), PathNormalization("DECODE_AND_MERGE_SLASHES")
    assert not any(Paths(("/admin",), base).accepts(base.of_request(path.encode())) for path in told)
    denied = [path for path in told if Paths(("/admin",), closed).accepts(closed.of_request(path.encode()))]
    assert sorted(denied) == ["/%2Fadmin", "//admin"]


@pytest.mark.parametrize(
    ("mode", "told"), [("BASE", True), ("MERGE_SLASHES", True), ("DECODE_AND_MERGE_SLASHES", False)]
)
def test_with_the_setting_that_closes_it_nothing_is_told(mode: str, told: bool, tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text(MESH)
    text = policy("{paths: [/admin]}").encode()

    analysis = analyze(load([tmp_path], None, Settings(HttpSettings(path_normalization=mode)), stdin=text))

    assert (LintCode.PATH_LEFT_OPEN in {it.code for it in analysis.problems}) is told
