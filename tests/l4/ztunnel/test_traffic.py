"""The report of a connection, by the way in which it ended."""

from pathlib import Path

import pytest

from l4.hbone.errors import ConnectFailed, ConnectTimedOut, HandshakeFailed, TunnelRefused, TunnelReset
from l4.http2.errors import ErrorCode
from l4.identity.source import NoCertificate
from l4.net.copy import SideLost
from l4.telemetry.access_log import AccessLog
from l4.telemetry.metrics import MeshMetrics
from l4.ztunnel.ends import Ends
from l4.ztunnel.traffic import Flow, Traffic, labels_of
from policies.attributes import Identity
from tests.kit.workloads import pod

CLIENT = pod("client", "10.0.0.1")


def outside() -> Flow:
    ends = Ends(
        CLIENT.uid, "outbound", CLIENT.metric_labels, "client", CLIENT.identity, labels_of(None), "", None, None, False
    )
    return Flow(ends, ("10.0.0.1", 4000), ("fd00::1", 443), ("fd00::1", 443), "")


class Told:
    """A Traffic, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "access.log"
        self._log = AccessLog(str(self._path))
        self._metrics = MeshMetrics("ztunnel", "test")
        self.traffic = Traffic(self._metrics, self._log)

    @property
    def line(self) -> str:
        self._log.close()
        (line,) = self._path.read_text().splitlines()
        return line

    @property
    def metrics(self) -> str:
        return self._metrics.render("")[0].decode()


@pytest.mark.parametrize(
    ("error", "flag", "level"),
    [
        (SideLost("client", None), "-", "info"),
        (SideLost("client", ConnectionResetError()), "-", "info"),
        (SideLost("destination", BrokenPipeError()), "-", "info"),
        (SideLost("client", TunnelReset("reset", ErrorCode.CANCEL)), "-", "info"),
        (SideLost("client", TunnelReset("reset", ErrorCode.PROTOCOL_ERROR)), "CONNECT", "error"),
        (SideLost("destination", TunnelReset("the HBONE connection was lost")), "CONNECT", "error"),
        (SideLost("destination", TimeoutError()), "CONNECT", "error"),
        (ConnectFailed("refused"), "CONNECT", "error"),
        (ConnectTimedOut("late"), "NETWORK_POLICY", "error"),
        (HandshakeFailed("who?"), "TLS_FAILURE", "error"),
        (NoCertificate(Identity("a", "b", "c"), "none"), "IDENTITY_ERROR", "error"),
        (TunnelRefused("no", 401), "DENY", "error"),
        (TunnelRefused("no", 503), "CONNECT", "error"),
    ],
    ids=str,
)
def test_the_end_of_a_connection_has_ztunnels_flag_and_level(
    tmp_path: Path, error: Exception, flag: str, level: str
) -> None:
    told = Told(tmp_path)

    told.traffic.opened(outside()).abort(error)

    assert f'response_flags="{flag}"' in "".join(_samples(told, "istio_tcp_connections_closed_total"))
    assert told.line.split("\t")[1] == level
    assert ("error=" in told.line) == (level == "error")
    assert told.traffic.open_count == 0


def test_a_line_names_what_is_known_and_leaves_out_the_rest(tmp_path: Path) -> None:
    told = Told(tmp_path)

    told.traffic.opened(outside()).abort(ConnectFailed("nobody listens"))

    start, _, duration = told.line.split("\t", 1)[1].partition(" duration=")
    assert start == (
        'error\taccess\tconnection complete\tsrc.addr="10.0.0.1:4000" src.workload="client" src.namespace="default" '
        'src.cluster="Kubernetes" dst.addr="[fd00::1]:443" direction="outbound" bytes_sent=0 bytes_recv=0'
    )
    assert duration.endswith('ms" error="nobody listens"')


def test_nothing_that_is_said_can_forge_a_line_or_a_field(tmp_path: Path) -> None:
    told = Told(tmp_path)

    told.traffic.failed("outbound", "10.0.0.1:4000", "10.0.0.2:80", 'a "word"\n2026 info\taccess é')

    assert told.line.endswith(r"""error="a 'word'\n2026 info\taccess \xe9" """.strip())


def test_what_failed_before_anything_was_known_is_not_counted(tmp_path: Path) -> None:
    told = Told(tmp_path)

    told.traffic.failed("inbound", "10.0.0.1:4000", "10.0.0.2:80", "no")

    assert "\twarn\taccess\tconnection failed\t" in told.line
    assert not _samples(told, "istio_tcp_connections_opened_total")


def test_without_mutual_tls_nobodys_identity_is_claimed(tmp_path: Path) -> None:
    told = Told(tmp_path)

    told.traffic.opened(outside())

    (sample,) = _samples(told, "istio_tcp_connections_opened_total")
    for label in (
        'reporter="source"',
        'source_workload="client"',
        'source_principal="unknown"',
        'destination_workload="unknown"',
        'destination_service="unknown"',
        'connection_security_policy="unknown"',
    ):
        assert label in sample


def _samples(told: Told, name: str) -> list[str]:
    return [line for line in told.metrics.splitlines() if line.startswith(f"{name}{{")]
