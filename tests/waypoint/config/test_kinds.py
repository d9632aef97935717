import pytest

from l4.discovery import kubernetes
from waypoint.config.kinds import KINDS

VERSIONS = ("v1", "v1beta1", "v1alpha3", "v1alpha2", "v1alpha1")


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_no_kind_that_is_read_is_taken_for_a_misspelled_one(group: str, kind: str) -> None:
    versions = (f"{group}/{version}" if group else version for version in VERSIONS)

    assert any(KINDS.near_miss(version, kind) is None for version in versions)


@pytest.mark.parametrize(
    ("api_version", "kind", "sentence"),
    [
        ("gateway.networking.k8s.io/v1", "HttpRoute", "there is no kind 'HttpRoute'; did you mean HTTPRoute?"),
        (
            "gateway.networking.k8s.io/v1alpha9",
            "HTTPRoute",
            "there is no gateway.networking.k8s.io/v1alpha9; did you mean gateway.networking.k8s.io/v1?",
        ),
        (
            "networking.istio.io/v1",
            "HTTPRoute",
            "networking.istio.io has no kind 'HTTPRoute'; did you mean apiVersion: gateway.networking.k8s.io/v1?",
        ),
        ("v1", "Servce", "there is no kind 'Servce'; did you mean Service?"),
        ("networking.istio.io/v1", "Virtualservices", "did you mean VirtualService?"),
        (
            "gateway.networking.k8s.oi/v1",
            "HTTPRoute",
            "did you mean apiVersion: gateway.networking.k8s.io/v1?",
        ),
        ("pywaypoint.dev/v1alpha1", "FaultPolicies", "did you mean FaultPolicy?"),
        ("discovery.k8s.io/v1", "Something", "discovery.k8s.io has no kind 'Something'; its kinds are EndpointSlice"),
    ],
)
def test_any_kind_of_a_group_that_is_read_must_be_known(api_version: str, kind: str, sentence: str) -> None:
    found = KINDS.near_miss(api_version, kind)

    assert found is not None
    assert not found.is_policy
    assert found.sentence.endswith(sentence)


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_a_ztunnel_takes_no_kind_of_a_waypoint_for_a_misspelled_one(group: str, kind: str) -> None:
    versions = (f"{group}/{version}" if group else version for version in VERSIONS)

    assert any(kubernetes.KINDS.near_miss(version, kind) is None for version in versions)


@pytest.mark.parametrize("kind", ["ProxyConfig", "Sidecar"])
def test_a_kind_that_nobody_reads_is_left_alone_by_both(kind: str) -> None:
    assert KINDS.near_miss("networking.istio.io/v1", kind) is None
    assert kubernetes.KINDS.near_miss("networking.istio.io/v1", kind) is None
