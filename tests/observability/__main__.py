"""`python -m tests.observability` installs what these tests need, or ends with a sentence about what is missing."""

import os
import shutil
import sys

from tests.cluster.progress import step
from tests.cluster.tools import run
from tests.observability.jaeger import JAEGER

_PROMETHEUS = ("prometheus", "promtool")


def lack() -> str:
    """Return what is missing and cannot be installed here; empty if nothing is."""
    may_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if not all(map(shutil.which, _PROMETHEUS)) and not may_install:
        return (
            "Prometheus and promtool are not here. Install Debian's package prometheus (apt install prometheus), or a "
            "release from https://prometheus.io/download, and put both in PATH."
        )
    return ""


def install() -> None:
    if not all(map(shutil.which, _PROMETHEUS)):
        with step("install prometheus"):
            run(["apt-get", "update"])
            run(["apt-get", "install", "--yes", "--no-install-recommends", "prometheus"])
    if JAEGER.is_built:
        return
    if shutil.which("go") is None:
        print("Go is not here (https://go.dev/dl), so that no Jaeger can be built: the tests of traces are left out.")
        return
    JAEGER.into.mkdir(parents=True, exist_ok=True)
    try:
        with step("build jaeger"):
            os.nice(19)
            JAEGER.build()
    except SystemExit as failure:
        print(f"{failure}\nThe tests of traces are left out.")


if sentence := lack():
    sys.exit(sentence)
install()
