"""A real Prometheus, which scrapes each second and evaluates rules as often."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

START_SECONDS = 30.0
_PORT = 19190

METRICS_PATH = "/stats/prometheus"

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """Return labels and value of each series of the result. Raises HTTPError if it does not parse."""
        found = self._get("query", query=expression)
        return [(it["metric"], float(it["value"][1])) for it in found["result"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {it["labels"]["alertname"] for it in self._get("alerts")["alerts"] if it["state"] == "firing"}

    def _get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(
    folder: Path,
    jobs: Iterable[Mapping[str, Any]],
    *rules: Path,
    ip: str = "127.0.0.1",
    wrapped: Callable[..., list[str]] = lambda *command: list(command),
) -> Iterator[Prometheus]:
    """Yield a Prometheus with these scrape configs and rule files. Its own files are in the folder.

    It serves `ip`; `wrapped` returns the command that runs it elsewhere, such as in another network namespace.
    """
    address = f"{ip}:{_PORT}"
    config = folder / "prometheus.yaml"
    settings = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content = {"global": settings, "rule_files": [str(it) for it in rules], "scrape_configs": list(jobs)}
    config.write_text(yaml.safe_dump(content))
    command = wrapped(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    )
    log = folder / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _await_ready(process, log)
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "Server is ready to receive web requests" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
