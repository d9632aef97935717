"""What a waypoint checks of servers outside the mesh."""

from l4.outside_tls import client_context
from policies.upstream_tls import UpstreamTls
from tests.kit.aio import run
from waypoint.upstream.tls import TlsContexts


def test_a_context_for_an_endpoint_checks_what_every_client_checks() -> None:
    tls = UpstreamTls("example.com", is_verified=True)

    assert run(TlsContexts().get(tls)).verify_flags == client_context().verify_flags
