"""The machine and the programs that figures come from: without these, a figure means little."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.chain import TWIN
from tests.kit.envoy import BINARY

_SECONDS = 20
_PYTHON = """
import json, platform, ssl, sys, sysconfig
options = sysconfig.get_config_var("CONFIG_ARGS") or ""
print(json.dumps({
    "python": platform.python_version(),
    "python is configured with --enable-optimizations": "--enable-optimizations" in options,
    "python is built with link-time optimization": "--with-lto" in options,
    "openssl": ssl.OPENSSL_VERSION,
}))
"""

Description = Mapping[str, object]


def describe(*, python: str, packages: Path) -> Description:
    """`python` runs ours, from `packages`. The load average is what others do, if this is called before measuring."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory MiB": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "load average": load_average(),
        "ours": "compiled twin" if packages == TWIN else "plain source",
        **json.loads(_output(python, "-c", _PYTHON)),
        "envoy": _version(str(BINARY), "--version"),
        "wrk": _version("wrk", "-v"),
        "h2load": _version("h2load", "--version"),
    }


def load_average() -> list[float]:
    """Of one, five and fifteen minutes."""
    return [round(it, 2) for it in os.getloadavg()]


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _version(program: str, option: str) -> str | None:
    """The version that the program says, or None if it isn't here."""
    if shutil.which(program) is None:
        return None
    found = re.findall(r"\d+\.\d+\.\d+", _output(program, option).strip().partition("\n")[0])
    return found[-1] if found else None


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False).stdout
