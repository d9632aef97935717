"""`python -m bench` itself: small, with the real Envoy and our real program."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench.chain import PLAIN, Chain, System
from bench.setups import FULL
from tests.kit.envoy_pieces import Address

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(200)]


def bench(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *options]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=PLAIN, env=environment, capture_output=True, text=True, timeout=180)


def test_one_command_gives_one_table_one_json_and_a_plot(tmp_path: Path) -> None:
    done = bench("--plain", "--pairs", "1", "--seconds", "1", "--only", "rate-500", "start", "--out", str(tmp_path))

    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["ours"] == "plain source"
    assert figures["machine"]["cores"] == os.cpu_count()
    assert figures["options"] == {"pairs": 1, "seconds": 1, "scenarios": ["rate-500", "start"]}
    assert figures["summary"]["500 requests/s"]["p99 ms"]["ours"] > 0
    assert figures["summary"]["start with 100 services"]["s until a request is served"]["peer"] > 0
    assert figures["void"] == []
    assert "| 500 requests/s " in done.stdout
    assert (tmp_path / "table.md").read_text() == done.stdout
    assert "<circle" in (tmp_path / "ratios.svg").read_text()


def test_what_is_missing_is_named_with_its_package() -> None:
    done = bench("--only", "http1-1", "grpc", PATH="/nonexistent")

    assert (done.returncode, done.stdout) == (2, "")
    assert "missing: h2load, wrk: apt-get install nghttp2-client wrk" in done.stderr


def test_a_scenario_that_is_not_there_is_refused() -> None:
    done = bench("--only", "nonsense")

    assert done.returncode == 2
    assert "no scenario nonsense" in done.stderr


def test_both_systems_do_what_the_setup_says(tmp_path: Path) -> None:
    with ExitStack() as stack:
        chain = Chain(tmp_path, stack, packages=PLAIN)
        for name in ("ours", "envoy"):
            with chain.system(name, FULL) as system:  # whose last rule alone lets the client in
                assert ask(system) == (200, b"x" * 325)
                assert ask(system, system.tcp_entry) == (200, b"x" * 325)
            with chain.system(name, replace(FULL, token=True)) as system:
                assert ask(system) == (200, b"x" * 325)
                assert ask(system, authorization="Bearer nonsense")[0] == 401


def ask(system: System, entry: Address | None = None, **headers: str) -> tuple[int, bytes]:
    host, port = entry or system.entry
    request = urllib.request.Request(f"http://{host}:{port}/", headers={**system.requests.headers, **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
