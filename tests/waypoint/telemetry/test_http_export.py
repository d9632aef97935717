"""Spans that go out over HTTP: again after what may pass, and nowhere else than to the collector."""

import gzip
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.kit.certificates import MeshPki
from waypoint.telemetry import http_export
from waypoint.telemetry.http_export import HttpTransport
from waypoint.telemetry.tracing_settings import InvalidTracing, TracingSettings

REQUEST = b"an ExportTraceServiceRequest"


@dataclass
class Seen:
    """What a server was asked, and what it answers: the statuses in turn, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def server(*statuses: int, tls: ssl.SSLContext | None = None) -> Iterator[Seen]:
    seen = Seen(statuses=list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(seen.statuses.pop(0) if seen.statuses else 200)
            self.send_header("Location", f"{seen.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as it:
        if tls is not None:
            it.socket = tls.wrap_socket(it.socket, server_side=True)
        seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{it.server_port}"
        thread = Thread(target=it.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield seen
        finally:
            it.shutdown()
            thread.join()


def transport(url: str, **variables: str) -> HttpTransport:
    settings = TracingSettings.parse({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **variables}, "waypoint")
    assert settings is not None
    return HttpTransport(settings)


def test_a_batch_is_one_request_with_the_collectors_headers() -> None:
    with server() as seen:
        result = transport(seen.url, OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20a").send(REQUEST, 2)

    [(path, headers, body)] = seen.asked
    assert (result, path, body) == (True, "/v1/traces", REQUEST)
    assert (headers["authorization"], headers["content-type"]) == ("Bearer a", "application/x-protobuf")


def test_a_batch_is_compressed_where_that_is_set() -> None:
    with server() as seen:
        transport(seen.url, OTEL_EXPORTER_OTLP_COMPRESSION="gzip").send(REQUEST, 1)

    [(_, headers, body)] = seen.asked
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == REQUEST


def test_another_compression_is_refused() -> None:
    with pytest.raises(InvalidTracing, match="OTEL_EXPORTER_OTLP_COMPRESSION"):
        transport("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_COMPRESSION="deflate")


@pytest.mark.parametrize(
    ("statuses", "tries", "expected"),
    [
        ((429, 502, 503, 504), 5, True),
        ((503,) * 9, 6, False),
        ((400,), 1, False),
        ((302,), 1, False),
        ((307,), 1, False),
    ],
)
def test_a_batch_is_sent_again_only_after_what_may_pass(
    statuses: tuple[int, ...], tries: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_export, "_PAUSES_SECONDS", (0.001,) * 5)

    with server(*statuses) as seen:
        result = transport(seen.url).send(REQUEST, 1)

    assert (result, len(seen.asked)) == (expected, tries)
    assert {path for path, _, _ in seen.asked} == {"/v1/traces"}


def test_a_collector_that_is_away_is_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    result = transport("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="0.2").send(REQUEST, 1)

    assert not result
    assert "1 spans are lost: the collector at http://127.0.0.1:1/v1/traces answered" in caplog.text


def test_nothing_but_http_is_opened(tmp_path: Path) -> None:
    result = transport(f"file://{tmp_path}", OTEL_EXPORTER_OTLP_TIMEOUT="0.1").send(REQUEST, 1)

    assert not result


def test_a_collector_may_ask_for_a_certificate_from_an_authority_of_its_own(tmp_path: Path) -> None:
    pki = MeshPki(tmp_path)
    chain = pki.write(pki.identity("default", "waypoint"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served = pki.write(pki.identity("default", "collector"), pki.leaf(ips=["127.0.0.1"]))
    tls.load_cert_chain(served, served.with_suffix(".key"))
    tls.load_verify_locations(pki.bundle_path)
    tls.verify_mode = ssl.CERT_REQUIRED
    trusted = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(pki.bundle_path)}
    own = {
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(chain),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(chain.with_suffix(".key")),
    }

    with server(tls=tls) as seen:
        results = [
            transport(seen.url, OTEL_EXPORTER_OTLP_TIMEOUT="0.5", **it).send(REQUEST, 1)
            for it in (trusted | own, trusted, own)
        ]

    assert results == [True, False, False]
    assert len(seen.asked) == 1


def test_a_certificate_that_is_unusable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTracing, match=r"a certificate for the collector at https://127\.0\.0\.1:1"):
        transport("https://127.0.0.1:1", OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(tmp_path / "nothing"))
