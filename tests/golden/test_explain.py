"""`waypoint explain` prints what is written in explain/NAME.txt, of mesh.yaml with explain/routes.yaml laid beside it.

After a change that is meant: `pytest tests/golden --update-golden`, and read the diff.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from waypoint.cli import cli

HERE = Path(__file__).parent
CASES = {
    "split": ["--to", "reviews:9080", "--path", "/v2?a=b", "-H", "end-user: eve", "-H", "Cookie: a=b"],
    "weaker": ["--to", "reviews:9080", "--path", "/v2", "-H", "end-user: jason"],
    "redirect": ["--to", "reviews.default:9080", "--path", "/away/x"],
    "not-found": ["--to", "10.96.0.1:9080", "--method", "PUT", "--path", "/edit"],
    "consumer": ["--from", "shop/client", "--to", "reviews.default:9080"],
    "opaque": ["--to", "reviews:9081"],
    "refused": ["--to", "reviews:9080", "--path", "/%00"],
    "tokens": ["--to", "reviews-v2:9080"],
    "not-served": ["--to", "ratings.shop"],
}


@pytest.mark.parametrize("name", CASES)
def test_an_explanation_reads_as_it_is_written_beside_it(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    expected = HERE / "explain" / f"{name}.txt"

    answer = CliRunner().invoke(
        cli, ["explain", "--resources", "mesh.yaml", "--resources", "explain/routes.yaml", *CASES[name]]
    )

    if request.config.getoption("--update-golden", default=False):
        expected.write_text(answer.stdout)
    assert answer.exit_code == 0
    assert answer.stderr == "1 problem in these files; run `waypoint analyze` for details\n"
    assert answer.stdout == expected.read_text()
