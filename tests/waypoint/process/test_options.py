"""What follows from the options of `waypoint run`."""

from pathlib import Path

import pytest

from l4.identity.options import CertificateFiles
from l4.kubernetes.options import KubernetesOptions
from waypoint.process.options import GatewayName, RunOptions

FILE = Path("file")


@pytest.mark.parametrize(
    ("listen", "instance_ip", "source"),
    [
        ("0.0.0.0", "", None),
        ("::", "", None),
        ("127.9.0.1", "", "127.9.0.1"),  # a mesh on one machine, whose pods are addresses of loopback
        ("0.0.0.0", "10.0.0.9", None),
        ("127.0.0.1", "10.0.0.9", None),
    ],
)
def test_connections_come_from_the_address_that_is_listened_on_unless_a_pod_has_another(
    listen: str, instance_ip: str, source: str | None
) -> None:
    local = ("127.0.0.1", 0)
    options = RunOptions(
        (), GatewayName("n", "w"), CertificateFiles(FILE, FILE, FILE), (listen, 1), local, local, local, ""
    )

    assert options.source_ip(instance_ip) == source


@pytest.mark.parametrize(("resources", "is_once"), [((FILE,), False), (KubernetesOptions(), True)])
def test_only_an_api_server_is_followed_for_all_workers(
    resources: tuple[Path, ...] | KubernetesOptions, is_once: bool
) -> None:
    local = ("127.0.0.1", 0)
    files = CertificateFiles(FILE, FILE, FILE)
    options = RunOptions(resources, GatewayName("n", "w"), files, local, local, local, local, "")

    assert options.is_followed_once is is_once
