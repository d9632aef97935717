"""istiod as the authority of our programs, with an API server that has nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from l4.identity.authority import AuthorityError, SignedChain, certificate_request
from l4.identity.certificate import Certificate, Pem
from l4.identity.istio_ca import IstioCa
from l4.identity.source import WorkloadCertificate
from policies.attributes import Identity
from tests.cluster import tools
from tests.cluster.bare import BareServer, bare_server
from tests.cluster.istiod import Istiod
from tests.kit.aio import run
from tests.l4.identity.test_tls import Meeting, meet
from waypoint.controller.root import RootAuthority, utc_now

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(120)]

NAME = "authority"


def pod(name: str, account: str, node: str) -> dict[str, Any]:
    spec = {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "app", "image": "app"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAME}, "spec": spec}


def account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAME}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareServer]:
    tools.install("istio")
    with bare_server(tmp_path_factory.mktemp("api")) as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}})
        server.apply(*map(account, ("ztunnel", "waypoint", "here", "there")))
        server.apply(pod("z", "ztunnel", "near"), pod("a", "here", "near"), pod("b", "there", "far"))
        yield server


@pytest.fixture(scope="module")
def istiod(api: BareServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Istiod]:
    it = Istiod(NAME, tmp_path_factory.mktemp("istiod"), api.kubeconfig, is_authority=True)
    it.start()
    yield it
    it.end()


def sign(
    istiod: Istiod,
    token: Path,
    account: str,
    *,
    impersonates: bool = False,
    csr_pem: bytes = b"",
    seconds: int = 3600,
) -> SignedChain:
    identity = Identity("cluster.local", NAME, account)
    authority = IstioCa(
        istiod.address,
        root_path=istiod.root,
        token_path=token,
        cluster_id="Kubernetes",
        impersonates=impersonates,
        certificate_seconds=seconds,
    )

    async def signed() -> SignedChain:
        try:
            return await authority.sign(identity, csr_pem or certificate_request(identity)[1])
        finally:
            await authority.close()

    return run(signed(), 30)


def names(chain: bytes) -> list[str]:
    leaf = x509.load_pem_x509_certificates(chain)[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.UniformResourceIdentifier)


def test_it_signs_for_the_account_of_a_token(istiod: Istiod) -> None:
    signed = sign(istiod, istiod.token_of("waypoint"), "waypoint")

    assert names(signed.chain_pem) == [f"spiffe://cluster.local/ns/{NAME}/sa/waypoint"]
    assert len(x509.load_pem_x509_certificates(signed.chain_pem)) == 2
    assert signed.trust_bundle_pem.strip() == istiod.root.read_bytes().strip()


def test_it_signs_for_the_pods_of_a_ztunnel_s_node_alone(istiod: Istiod) -> None:
    token = istiod.token_of("ztunnel", "z")

    signed = sign(istiod, token, "here", impersonates=True)

    assert names(signed.chain_pem) == [f"spiffe://cluster.local/ns/{NAME}/sa/here"]
    with pytest.raises(AuthorityError, match="must be a trusted node account"):
        sign(istiod, token, "there", impersonates=True)
    with pytest.raises(AuthorityError, match="must be a trusted node account"):
        sign(istiod, istiod.token_of("waypoint"), "here", impersonates=True)


def test_it_signs_for_the_requested_life_and_refuses_more_than_its_own_limit(istiod: Istiod) -> None:
    token = istiod.token_of("waypoint")

    signed = sign(istiod, token, "waypoint", seconds=600)

    (leaf, *_) = x509.load_pem_x509_certificates(signed.chain_pem)
    assert 0 < (leaf.not_valid_after_utc - datetime.now(UTC)).total_seconds() <= 600
    with pytest.raises(AuthorityError, match="greater than the max allowed TTL"):
        sign(istiod, token, "waypoint", seconds=91 * 86400)  # its default is 90 days


def test_our_own_authority_takes_its_place_with_the_same_secret(istiod: Istiod) -> None:
    """What operators put into `cacerts` of both namespaces."""
    authority = RootAuthority.of({it.name: it.read_bytes() for it in istiod.plugged_in.iterdir()}, utc_now())

    def by_istiod(account: str) -> WorkloadCertificate:
        key, csr_pem = certificate_request(Identity("cluster.local", NAME, account))
        signed = sign(istiod, istiod.token_of(account), account, csr_pem=csr_pem)
        return certificate(signed.chain_pem, key.pem, signed.trust_bundle_pem)

    def by_us(account: str) -> WorkloadCertificate:
        identity = Identity("cluster.local", NAME, account)
        key, csr_pem = certificate_request(identity)
        leaf = authority.sign(identity, csr_pem, timedelta(hours=1), utc_now()).leaf
        return certificate(b"".join((leaf, *authority.intermediates)), key.pem, authority.roots)

    for client, server in ((by_istiod("here"), by_us("there")), (by_us("here"), by_istiod("there"))):
        meeting = run(meet(server, client.client_context, frozenset({server.identity})))
        assert meeting == Meeting(client.identity, server.identity, received=b"hello")


def certificate(chain: bytes, key: bytes, roots: bytes) -> WorkloadCertificate:
    return WorkloadCertificate(Certificate.of(Pem("chain", chain), Pem("key", key), Pem("roots", roots)))
