"""The pair of ztunnels and what stands in its place: each carries the same bytes."""

import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.chain import PLAIN
from bench.tunnels import BULK_MIB, BULK_PATH, TunnelChain

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(120)]


def test_ours_envoys_and_bare_relays_carry_the_same_bytes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        chain = TunnelChain(tmp_path, stack, packages=PLAIN)
        for name in ("ours", "envoy", "relay"):
            with chain.system(name) as tunnels:
                url = f"http://{tunnels.entry[0]}:{tunnels.entry[1]}{BULK_PATH}"
                with urllib.request.urlopen(url, timeout=20) as answer:
                    assert answer.read() == bytes(BULK_MIB << 20), name
                assert all(it >= 0 for it in tunnels.cpu_seconds())
                assert all(it > 1 for it in tunnels.rss_mib())
