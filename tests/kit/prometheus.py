"""A real Prometheus, which scrapes each second and evaluates rules as often."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

START_SECONDS = 30.0
_ADDRESS = "127.0.0.1:19190"

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
def prometheus(folder: Path, targets: Mapping[str, Labels], rules: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus that scrapes /stats/prometheus of the targets, which have these labels."""
    config = folder / "prometheus.yaml"
    groups = [{"targets": [address], "labels": labels} for address, labels in targets.items()]
    scraped = {"job_name": "mesh", "metrics_path": "/stats/prometheus", "static_configs": groups}
    settings = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.write_text(yaml.safe_dump({"global": settings, "rule_files": [str(rules)], "scrape_configs": [scraped]}))
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={_ADDRESS}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _await_ready(process, log)
            yield Prometheus(f"http://{_ADDRESS}")
        finally:
            process.terminate()


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "Server is ready to receive web requests" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
