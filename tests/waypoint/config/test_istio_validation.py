"""Objects that Istio's own validation refuses are refused here, too, with a sentence that gives the reason."""

import json

import pytest

from tests.kit.issuer import SigningKey
from tests.kit.kinds import load, told
from tests.kit.snapshots import compiled, documents_of
from tests.waypoint.config.test_reach import MESH
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.destination_rule import DestinationRule
from waypoint.config.istio.virtual_service import VirtualService


def virtual(hosts: str, rest: str = "http: [{route: [{destination: {host: a}}]}]") -> str:
    return f"{{hosts: {hosts}, {rest}}}"


def rule(text: str) -> str:
    return virtual("[a]", f"http: [{{route: [{{destination: {{host: a}}}}], {text}}}]")


def tls(names: str, hosts: str = "['*.example.com']") -> str:
    return virtual(hosts, f"tls: [{{match: [{{sniHosts: {names}}}], route: [{{destination: {{host: a}}}}]}}]")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (virtual("['foo.ba!r']"), "hosts: 'foo.ba!r' is not a host"),
        (virtual("['foo.*.com']"), "hosts: 'foo.*.com' is not a host"),
        (virtual("['']"), "hosts: '' is not a host"),
        (virtual("['-a']"), "hosts: '-a' is not a host"),
        (virtual("[a..b]"), "hosts: 'a..b' is not a host"),
        (virtual("['*']"), "'*' is valid only for gateways"),
        (
            virtual("['*']", "gateways: [mesh, front], http: [{directResponse: {status: 200}}]"),
            "is valid only for gateways",
        ),
        (tls("[foo.*.com]", "[foo.a.com]"), "sniHosts: 'foo.*.com' is not a host"),
        (tls("[a.example.org]"), "'a.example.org' is not covered by the object's hosts"),
        (tls("[]"), "length >= 1"),
        (virtual("[a]", "tls: [{route: [{destination: {host: a}}]}]"), "missing required field `match`"),
        ("{http: [{directResponse: {status: 200}}], gateways: [front]}", "hosts is missing"),
        ("{tcp: [{route: [{destination: {host: a}}]}]}", "hosts is missing"),
        (rule("retries: {retryOn: 5xx}"), "attempts is 0 or missing"),
        (rule("retries: {attempts: 1, retryOn: ٥٠٣}"), "retryOn: '٥٠٣' is not a retry condition"),
        (rule("retries: {attempts: 0, perTryTimeout: 1s}"), "attempts is 0 or missing"),
        (rule("retries: {attempts: 1, backoff: 0s}"), "backoff must be 1ms or more"),
        (rule("fault: {delay: {percentage: {value: 5}}}"), "fixedDelay is required"),
        (rule("fault: {delay: {exponentialDelay: 1s}}"), "exponentialDelay is not supported"),
        (rule("fault: {abort: {http2Error: REFUSED_STREAM}}"), "http2Error is not supported"),
    ],
)
def test_a_virtual_service(spec: str, sentence: str) -> None:
    assert sentence in told(VirtualService, spec)[1]


@pytest.mark.parametrize("host", ["a", "a.b", "'*.a.b'", "'*-a.b'", "10.0.0.1", "a.b.", "_a.b", "'::1'"])
def test_hosts_of_a_virtual_service(host: str) -> None:
    assert load(VirtualService, virtual(f"[{host}]"))


def test_any_host_of_a_gateway() -> None:
    assert load(VirtualService, virtual("['*']", "gateways: [front], http: [{directResponse: {status: 200}}]"))


def destination(tls: str, more: str = "") -> str:
    return f"{{host: a, trafficPolicy: {{tls: {{{tls}}}, {more}}}}}"


FILES = "clientCertificate: /a, privateKey: /b"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (destination("mode: SIMPLE, insecureSkipVerify: true, caCertificates: /a"), "caCertificates has no effect"),
        (destination("mode: SIMPLE, insecureSkipVerify: true, credentialName: a"), "credentialName has no effect"),
        (destination("mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]"), "subjectAltNames has no effect"),
        (destination("mode: SIMPLE, insecureSkipVerify: true, caCrl: /a"), "caCrl has no effect"),
        (destination(f"mode: MUTUAL, insecureSkipVerify: true, caCertificates: /a, {FILES}"), "has no effect"),
        (destination(f"mode: MUTUAL, insecureSkipVerify: true, subjectAltNames: [a], {FILES}"), "has no effect"),
        (destination("mode: SIMPLE, caCertificates: /a, caCertCredentialName: b"), "exclude each other"),
        (destination("mode: ISTIO_MUTUAL, caCertificates: /a"), "uses its own certificates"),
        (destination("mode: ISTIO_MUTUAL, credentialName: a"), "uses its own certificates"),
        (
            destination("mode: DISABLE", "loadBalancer: {consistentHash: {useSourceIp: false}}"),
            "useSourceIp: false has no effect",
        ),
    ],
)
def test_a_destination_rule(spec: str, sentence: str) -> None:
    assert sentence in told(DestinationRule, spec)[1]


@pytest.mark.parametrize("mode", ["mode: SIMPLE", f"mode: MUTUAL, {FILES}"])
def test_a_server_that_nobody_verifies_may_be_meant(mode: str) -> None:
    assert load(DestinationRule, destination(f"{mode}, insecureSkipVerify: true"))


def refused_tokens(rule: dict[str, object]) -> list[str]:
    """What is told of a rule whose issuer's tokens are all refused."""
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "it", "namespace": "default"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "reviews"}],
            "jwtRules": [{"issuer": "https://a.example", **rule}],
        },
    }
    snapshot = compiled(documents_of(mesh=MESH, case=json.dumps(document)))
    authentication = snapshot.destinations["reviews.default.svc.cluster.local", 80].authentication
    assert authentication is not None
    assert (authentication.rules[0].keys is None) == bool(snapshot.problems)
    return [it.sentence for it in snapshot.problems if it.code is ConfigCode.TOKENS_REFUSED]


def test_a_header_that_tells_a_claim_is_of_letters_and_digits() -> None:
    outputs = [{"header": "abc%123", "claim": "sub"}]

    (sentence,) = refused_tokens({"outputClaimToHeaders": outputs})

    assert sentence.startswith(
        "outputClaimToHeaders[0].header: 'abc%123' is not letters, digits, - and _; until this is fixed, no token"
    )


@pytest.mark.parametrize(
    ("timeout", "sentence"),
    [
        ("1d", "timeout: '1d' is not a duration such as 10s, 500ms or 1h30m"),
        ("5", "timeout: '5' is not a duration such as 10s, 500ms or 1h30m"),
        ("0s", "timeout 0s must be more than 0 and at most 1m"),
        ("61s", "timeout 61s must be more than 0 and at most 1m"),
    ],
)
def test_keys_are_waited_for_as_long_as_a_duration_says(timeout: str, sentence: str) -> None:
    (told_sentence,) = refused_tokens({"timeout": timeout})

    assert sentence in told_sentence
    assert refused_tokens({"timeout": "1m"}) == []
    assert refused_tokens({"timeout": "900000us"}) == []


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_private_key_in_a_policy_is_refused(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    private = {**json.loads(json.dumps(key.jwk)), "d": "c2VjcmV0"}

    (sentence,) = refused_tokens({"jwks": json.dumps({"keys": [private]})})

    assert "it contains a private key" in sentence
    assert refused_tokens({"jwks": json.dumps({"keys": [key.jwk]})}) == []


def test_rules_for_tokens_are_looked_at_without_a_target_too() -> None:
    spec = {"jwtRules": [{"issuer": "a", "jwks": "{}"}]}
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "it", "namespace": "default"},
        "spec": spec,
    }

    problems = compiled(documents_of(mesh=MESH, case=json.dumps(document))).problems

    assert [(it.field, it.code) for it in problems] == [
        ("spec.jwtRules[0].jwks", ConfigCode.TOKENS_REFUSED),
        ("spec.targetRefs", ConfigCode.POLICY_NOT_TARGETED),
    ]


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ("[{name: http, port: 80}]", "has no port named everything; the named ones are http"),
        ("[{port: 80}]", "no port of Service default/unnamed has a name, so everything does not exist"),
    ],
)
def test_a_section_that_there_is_not_is_told_with_those_that_there_are(ports: str, told: str) -> None:
    case = f"""
apiVersion: v1
kind: Service
metadata: {{name: unnamed, namespace: default}}
spec: {{ports: {ports}}}
---
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {{name: it, namespace: default}}
spec:
  targetRefs: [{{group: "", kind: Service, name: unnamed, sectionName: everything}}]
  rules: [{{limit: {{requests: 1, unit: Hour}}}}]
"""

    (problem,) = compiled(documents_of(mesh=MESH, case=case)).problems

    assert told in problem.sentence
