"""The waypoint's own certificate, from files or from an authority."""

from pathlib import Path

import pytest

from l4.config.settings import InvalidSetting, Settings
from l4.discovery.mesh import Mesh
from l4.discovery.own_pod import OwnPod
from l4.identity.files import FileStore
from l4.identity.options import AuthorityOptions, CertificateFiles
from l4.identity.signing import AuthoritySource
from l4.identity.source import NoCertificate
from tests.kit.certificates import MeshPki
from waypoint.process.certificate import own_certificate
from waypoint.process.options import GatewayName, RunOptions

AUTHORITY = AuthorityOptions("istiod:15012", Path("root"), Path("token"))


def options(certificate: CertificateFiles | AuthorityOptions) -> RunOptions:
    ports = [("127.0.0.1", 0)] * 4
    return RunOptions((), GatewayName("default", "waypoint"), certificate, *ports, "")


def test_files_are_loaded_and_say_who_it_is(tmp_path: Path) -> None:
    pki = MeshPki(tmp_path)
    chain = pki.write(pki.identity("default", "waypoint"))
    files = CertificateFiles(chain, chain.with_suffix(".key"), pki.bundle_path)

    own = own_certificate(options(files), Settings())

    assert isinstance(own.source, FileStore)
    assert own.identity == own.get().identity == pki.identity("default", "waypoint")


def test_an_authority_is_asked_for_the_service_accounts() -> None:
    settings = Settings(
        Mesh(trust_domain="example.com"), OwnPod(pod_namespace="bookinfo", service_account="reviews-waypoint")
    )

    own = own_certificate(options(AUTHORITY), settings)

    assert isinstance(own.source, AuthoritySource)
    assert str(own.identity) == "spiffe://example.com/ns/bookinfo/sa/reviews-waypoint"
    with pytest.raises(NoCertificate, match="the authority has not answered yet"):
        own.get()


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        (OwnPod(), "POD_NAMESPACE and SERVICE_ACCOUNT must be set with --ca-address"),
        (OwnPod(pod_namespace="bookinfo"), "SERVICE_ACCOUNT must be set with --ca-address"),
        (OwnPod(service_account="waypoint"), "POD_NAMESPACE must be set with --ca-address"),
        (
            OwnPod(pod_namespace="a/b", service_account="waypoint"),
            "TRUST_DOMAIN, POD_NAMESPACE and SERVICE_ACCOUNT make no identity: ",
        ),
    ],
)
def test_without_a_service_account_there_is_nothing_to_ask_for(workload: OwnPod, sentence: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        own_certificate(options(AUTHORITY), Settings(workload))

    assert str(raised.value).startswith(sentence)
