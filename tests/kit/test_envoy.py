"""Tests of the peers themselves, so that a failing test with one of them points to our code."""

import http.client
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from l4.identity.authority import DevelopmentAuthority
from policies.attributes import Identity
from tests.kit import envoy


def certificate(authority: DevelopmentAuthority, folder: Path, name: str) -> envoy.Certificate:
    chain = authority.write(Identity("cluster.local", "default", name), folder)
    return envoy.Certificate(chain, chain.with_suffix(".key"), authority.bundle_path)


@pytest.mark.envoy
def test_a_request_passes_every_place(tmp_path: Path) -> None:
    authority = DevelopmentAuthority(tmp_path / "ca")
    pair = certificate(authority, tmp_path, "app")
    app, dest, waypoint, source = (envoy.free_address() for _ in range(4))
    configs = {
        app: envoy.app(listen=app, body_bytes=10),
        dest: envoy.dest(pair, listen=dest, app=app),
        waypoint: envoy.waypoint(pair, listen=waypoint, to=dest, authority="a:1", access_log=tmp_path / "log"),
        source: envoy.source(pair, listen=source, to=waypoint, authority="b:2"),
    }

    with ExitStack() as stack:
        for address, config in configs.items():
            stack.enter_context(envoy.run(config, ready=address))
        connection = http.client.HTTPConnection(*source, timeout=10)
        connection.request("GET", "/")
        body = connection.getresponse().read()
        connection.close()

    assert body == b"x" * 10


@pytest.mark.envoy
def test_what_envoy_says_about_a_wrong_configuration_is_in_the_error() -> None:
    address = envoy.free_address()

    with pytest.raises(envoy.CannotStart, match="has unknown fields"), envoy.run({"nonsense": 1}, ready=address):
        pass


def test_a_port_in_use_is_refused_before_it_would_be_shared() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()

        with pytest.raises(envoy.CannotStart, match=f"{address[1]} is in use"):
            envoy.require_free(address)
