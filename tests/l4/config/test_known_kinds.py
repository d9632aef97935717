import pytest

from l4.config.known_kinds import near_miss

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
    found = near_miss(api_version, kind)

    assert found is not None
    assert found.is_policy
    assert found.meant == meant
    assert meant is None or "did you mean" in found.sentence


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
    found = near_miss(api_version, kind)

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
    assert near_miss(api_version, kind) is None
