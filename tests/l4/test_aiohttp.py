"""aiohttp is imported without the system's root certificates, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, ssl
from unittest.mock import patch
made = []
create = ssl.create_default_context
with patch("ssl.create_default_context", lambda: made.append(create()) or made[-1]):
    from l4.aiohttp import aiohttp, web
assert aiohttp.ClientSession and web.Application
print([(it.verify_mode.name, it.cert_store_stats()["x509"]) for it in made], os.environ.get("SSL_CERT_FILE"))
"""


@pytest.mark.parametrize("roots", [None, "/etc/ssl/own.pem"])
def test_its_context_reads_no_roots_and_ours_still_find_theirs(roots: str | None) -> None:
    environment = {**os.environ, **({"SSL_CERT_FILE": roots} if roots else {})}
    if roots is None:
        environment.pop("SSL_CERT_FILE", None)

    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
        env=environment,
    )

    assert (ran.stdout, ran.stderr) == (f"[('CERT_REQUIRED', 0)] {roots}\n", "")
