import pytest

from l4.config.kinds import may_be_policy
from l4.discovery.kubernetes import KINDS

SECURITY = "security.istio.io/v1"
POLICY = ("security.istio.io", "AuthorizationPolicy")


@pytest.mark.parametrize(
    ("api_version", "kind", "meant"),
    [
        (SECURITY, "Authorizationpolicy", POLICY),
        (SECURITY, "AuthorizationPolicies", POLICY),
        (SECURITY, "AuthorisationPolicy", POLICY),
        ("security.istio.io/v2", "AuthorizationPolicy", POLICY),
        ("security.istio.io", "AuthorizationPolicy", POLICY),
        ("Security.istio.io/v1", "AuthorizationPolicy", POLICY),
        ("security.isto.io/v1", "AuthorizationPolicy", POLICY),
        ("istio.io/v1", "AuthorizationPolicy", POLICY),
        ("authorization.istio.io/v1", "AuthorizationPolicy", POLICY),
        ("networking.istio.io/v1", "AuthorizationPolicy", POLICY),
        ("v1", "AuthorizationPolicy", POLICY),
        ("v1", "AuthorizationPolicys", POLICY),
        (SECURITY, "PeerAuthentications", ("security.istio.io", "PeerAuthentication")),
        (SECURITY, "RequestAuthenticaton", ("security.istio.io", "RequestAuthentication")),
        (SECURITY, "Policy", None),
    ],
)
def test_a_near_miss_of_a_policy_says_what_was_meant(
    api_version: str, kind: str, meant: tuple[str, str] | None
) -> None:
    found = KINDS.near_miss(api_version, kind)

    assert found is not None
    assert found.is_policy
    assert found.meant == meant
    assert meant is None or "did you mean" in found.sentence


@pytest.mark.parametrize(
    ("api_version", "kind", "sentence"),
    [
        ("v1", "Servce", "there is no kind 'Servce'; did you mean Service?"),
        ("gateway.networking.k8s.io/v1", "Gatewey", "there is no kind 'Gatewey'; did you mean Gateway?"),
        ("networking.istio.io/v2", "ServiceEntry", "did you mean networking.istio.io/v1?"),
        ("discovery.k8s.io/v1", "Something", "discovery.k8s.io has no kind 'Something'; its kinds are EndpointSlice"),
    ],
)
def test_a_kind_that_is_almost_one_that_is_read_is_told(api_version: str, kind: str, sentence: str) -> None:
    found = KINDS.near_miss(api_version, kind)

    assert found is not None
    assert not found.is_policy
    assert found.sentence.endswith(sentence)


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        (SECURITY, "AuthorizationPolicy"),
        ("security.istio.io/v1beta1", "RequestAuthentication"),
        ("v1", "Secret"),
        ("apps/v1", "Deployment"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"),
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("telemetry.istio.io/v1", "Telemetry"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("networking.gke.io/v1", "Gateway"),
    ],
)
def test_what_is_known_or_somebody_elses_is_left_alone(api_version: str, kind: str) -> None:
    assert KINDS.near_miss(api_version, kind) is None


@pytest.mark.parametrize(
    ("api_version", "kind", "may_be"),
    [
        (None, None, True),
        (SECURITY, None, True),
        ("security.isto.io/v1", None, True),
        ("v1", None, False),
        (None, "AuthorizationPolicies", True),
        (None, "Service", False),
        (SECURITY, "Anything", True),
        ("v1", "AuthorizationPolicy", True),
        ("gateway.networking.k8s.io/v1", "AuthorizationPolicy", True),
        ("pywaypoint.dev/v1alpha1", "PeerAuthentication", True),
        ("security.isto.io/v1", "PeerAuthentication", True),
        ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", False),
        ("gateway.networking.k8s.io/v1", "Gateway", False),
    ],
)
def test_what_can_be_read_of_an_object_says_whether_it_may_be_a_policy(
    api_version: str | None, kind: str | None, may_be: bool
) -> None:
    assert may_be_policy(api_version, kind) is may_be
