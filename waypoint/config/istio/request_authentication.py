"""RequestAuthentication (security.istio.io), validated like istiod does.

An invalid rule must neither leave its tokens unchecked nor affect other rules. The compiler therefore parses `jwtRules`
one by one.
https://istio.io/latest/docs/reference/config/security/request_authentication/

`Authentications` compiles the token rules of each destination. Objects for a service and for its waypoint apply
together, with rules ordered by issuer. An unusable rule stays in effect and rejects all tokens of its issuer, so that a
typing error admits nobody.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, field

from l4.config.documents import Problem
from l4.config.durations import GoDuration, seconds_of
from l4.config.resources import Resource, Strict, sentence_about
from l4.config.shape import shape_of, unknown_fields
from l4.discovery.objects import Metadata
from l4.discovery.workload import Service
from policies import wire_text
from policies.jwt import LISTS_OF_WORDS, Authentication, InlineKeys, JwtRule, RemoteKeys, plain_audience
from policies.token_locations import DEFAULT_LOCATIONS, CookieLocation, HeaderLocation, Location, ParamLocation
from waypoint.config.api_fields import HeaderName
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.security_targets import (
    EVERYTHING,
    SecurityTargets,
    TargetRef,
    TargetRefs,
    waypoint_accepted,
)
from waypoint.config.report import Report
from waypoint.config.status import ConditionsStatus

Text = Annotated[str, Meta(min_length=1)]
Texts = tuple[Text, ...]


class FromHeader(Struct, frozen=True):
    name: HeaderName
    prefix: str = ""


PlainName = Annotated[str, Meta(max_length=256, pattern=r"^[-_A-Za-z0-9]+\Z", description="letters, digits, - and _")]


class ClaimToHeader(Struct, frozen=True):
    header: PlainName
    claim: Text


class JWTRule(Struct, frozen=True, rename="camel"):
    issuer: Text
    audiences: Texts = ()
    jwks_uri: str = ""
    jwks_uri_snake: str = field(default="", name="jwks_uri")
    jwks: str = ""
    from_headers: tuple[FromHeader, ...] = ()
    from_params: Texts = ()
    from_cookies: Texts = ()
    output_payload_to_header: HeaderName | None = None
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: GoDuration = "5s"
    space_delimited_claims: Annotated[Texts, Meta(max_length=64)] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"

    def __post_init__(self) -> None:
        if sum(map(bool, (self.jwks, self.jwks_uri, self.jwks_uri_snake))) > 1:
            raise ValueError("jwks and jwksUri exclude each other: keep one")
        uri = self.keys_uri or ("" if self.jwks else self.issuer)
        if uri and not is_fetchable(uri):
            what = "jwksUri" if self.keys_uri else "issuer, whose OpenID configuration is fetched without jwksUri,"
            raise ValueError(f"{what} must be a URL with http:// or https://, without user and password")
        if not 0 < self.timeout_seconds <= 60:
            raise ValueError(f"timeout {self.timeout} must be more than 0 and at most 1m")
        outputs = [self.output_payload_to_header or "", *(it.header for it in self.output_claim_to_headers)]
        lowered = [name.lower() for name in outputs if name]
        if len(set(lowered)) < len(lowered):
            raise ValueError("two outputs have the same header: use different headers")
        for name in lowered:
            wire_text.header_name(name)

    @property
    def keys_uri(self) -> str:
        """The API allows both spellings."""
        return self.jwks_uri or self.jwks_uri_snake

    @property
    def timeout_seconds(self) -> float:
        return seconds_of(self.timeout) or 0.0


class RequestAuthenticationSpec(Struct, frozen=True, rename="camel"):
    jwt_rules: Annotated[tuple[Any, ...], Meta(max_length=4096)] = ()
    target_refs: TargetRefs = ()
    target_ref: TargetRef | None = None
    selector: dict[str, Any] | None = None

    @property
    def targets(self) -> tuple[TargetRef, ...]:
        return self.target_refs if self.target_ref is None else (*self.target_refs, self.target_ref)


class RequestAuthentication(Strict, frozen=True):
    metadata: Metadata
    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()


def is_fetchable(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        return False


_MAX_UNKNOWN = 16  # reported per rule
_DISCOVERY = "/.well-known/openid-configuration"
_REFUSED = "until this is fixed, no token that the rule may apply to is accepted"


class Authentications:
    def __init__(self, resources: Iterable[Resource[RequestAuthentication]], targets: SecurityTargets) -> None:
        self.problems: list[Problem] = []
        self.statuses: list[ConditionsStatus] = []
        self._rules: dict[str, list[JwtRule]] = {}
        self._made: dict[tuple[JwtRule, ...], Authentication] = {}
        for resource in resources:
            self._add(resource, targets)

    def of(self, service: Service | None) -> Authentication | None:
        """Return the token rules for a service, or for a workload's own address."""
        own = self._rules.get(service.hostname, []) if service is not None else []
        rules = tuple(sorted({*own, *self._rules.get(EVERYTHING, [])}, key=lambda it: (it.issuer, repr(it))))
        if not rules:
            return None
        return self._made.setdefault(rules, Authentication(rules))

    def _add(self, resource: Resource[RequestAuthentication], targets: SecurityTargets) -> None:
        report = Report(resource)
        if resource.value.spec.selector is not None and resource.value.spec.targets:
            sentence = "has no effect together with targetRefs: a policy applies to pods or to a waypoint"
            report.tell("spec.selector", sentence, ConfigCode.POLICY_NOT_TARGETED)
        hostnames = list(targets.of(resource, resource.value.spec.targets, report))
        if hostnames or not resource.value.spec.targets:  # reported by the waypoint that it is for, or by all
            rules = [_rule(it, f"spec.jwtRules[{n}]", report) for n, it in enumerate(resource.value.spec.jwt_rules)]
            for hostname in hostnames:
                self._rules.setdefault(hostname, []).extend(rules)
        is_ours = any(map(targets.is_ours, hostnames))
        if is_ours or (resource.value.spec.targets and report.problems):
            generation = resource.value.metadata.generation
            self.statuses.append(ConditionsStatus(resource.key, generation, (waypoint_accepted(report),)))
        self.problems += report.problems


def _rule(content: Any, field: str, report: Report) -> JwtRule:
    try:
        rule = msgspec.convert(content, JWTRule)
    except msgspec.ValidationError as error:
        sentence = sentence_about(content, JWTRule, error)
        report.tell(field, f"{sentence}; {_REFUSED}", ConfigCode.TOKENS_REFUSED)
        return _broken(content)
    if unknown := list(islice(unknown_fields(content, shape_of(JWTRule), field), _MAX_UNKNOWN)):
        for place in unknown:
            sentence = f"is unknown and may be an important restriction; check the spelling; {_REFUSED}"
            report.tell(place, sentence, ConfigCode.TOKENS_REFUSED)
        return _broken(content)
    outputs = ((wire_text.header_name(it.header), it.claim) for it in rule.output_claim_to_headers)
    payload_header = rule.output_payload_to_header
    return JwtRule(
        issuer=rule.issuer,
        keys=_keys(rule, field, report),
        audiences=tuple(sorted({plain_audience(it) for it in rule.audiences})),
        locations=tuple(_locations(rule)) or DEFAULT_LOCATIONS,
        payload_header=wire_text.header_name(payload_header) if payload_header is not None else None,
        claim_headers=tuple(outputs),
        is_forwarded=rule.forward_original_token,
        space_delimited=tuple(dict.fromkeys((*LISTS_OF_WORDS, *rule.space_delimited_claims))),
        is_required=rule.presence == "REQUIRED",
    )


def _broken(content: Any) -> JwtRule:
    """Return a rule that accepts nothing, and that reserves the headers for claims."""
    fields = content if isinstance(content, dict) else {}
    outputs = fields.get("outputClaimToHeaders")
    told = [it.get("header") for it in outputs if isinstance(it, dict)] if isinstance(outputs, list) else []
    names = [it for it in (fields.get("outputPayloadToHeader"), *told) if isinstance(it, str)]
    issuer = fields.get("issuer")
    claim_headers = tuple((name, "") for name in _header_names(names))
    is_required = fields.get("presence") not in {None, "OPTIONAL"}
    text = issuer if isinstance(issuer, str) else ""
    return JwtRule(text, None, claim_headers=claim_headers, is_required=is_required)


def _header_names(names: Iterable[str]) -> Iterator[wire_text.HeaderName]:
    for name in names:
        with suppress(ValueError):
            yield wire_text.header_name(name)


def _locations(rule: JWTRule) -> Iterator[Location]:
    yield from (HeaderLocation(it.name.lower().encode(), it.prefix.encode()) for it in rule.from_headers)
    yield from (ParamLocation(name.encode()) for name in rule.from_params)
    yield from (CookieLocation(name.encode()) for name in rule.from_cookies)


def _keys(rule: JWTRule, field: str, report: Report) -> InlineKeys | RemoteKeys | None:
    if not rule.jwks:
        uri = rule.keys_uri or rule.issuer.rstrip("/") + _DISCOVERY
        return RemoteKeys(uri, not rule.keys_uri, rule.timeout_seconds)
    from policies.jwks import InvalidKeys, KeySet  # costs memory that most waypoints don't need

    text = rule.jwks.encode()
    try:
        KeySet.parse(text)
        if KeySet.holds_private_key(text):
            raise InvalidKeys("it contains a private key, with which any reader could sign tokens: use the public key")
    except InvalidKeys as error:
        report.tell(f"{field}.jwks", f"{error}; {_REFUSED}", ConfigCode.TOKENS_REFUSED)
        return None
    return InlineKeys(hashlib.sha256(text).hexdigest()[:16], text)
