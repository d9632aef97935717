"""RequestAuthentication (security.istio.io), checked as istiod's validation would.

A rule that breaks the API must not leave its tokens unchecked, nor take other rules along: `jwtRules` are therefore
decoded one by one, by the compiler.
https://istio.io/latest/docs/reference/config/security/request_authentication/
"""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from l4.config.resources import Strict
from l4.discovery.objects import Metadata
from policies import wire_text
from waypoint.config.api_fields import HeaderName
from waypoint.config.istio.security_targets import TargetRef, TargetRefs

_SECONDS = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s))+").fullmatch
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s)").findall
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

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
    timeout: str = "5s"
    space_delimited_claims: Annotated[Texts, Meta(max_length=64)] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"

    def __post_init__(self) -> None:
        if sum(map(bool, (self.jwks, self.jwks_uri, self.jwks_uri_snake))) > 1:
            raise ValueError("keys come from one place: keep jwks or jwksUri")
        uri = self.keys_uri or ("" if self.jwks else self.issuer)
        if uri and not is_fetchable(uri):
            what = "jwksUri" if self.keys_uri else "issuer, whose OpenID configuration is fetched without jwksUri,"
            raise ValueError(f"{what} must be an address with http:// or https:// and without user or password")
        if not _SECONDS(self.timeout) or not 0 < self.timeout_seconds <= 60:
            raise ValueError(f"timeout {self.timeout!r} is no duration of up to a minute, such as 5s")
        outputs = [self.output_payload_to_header or "", *(it.header for it in self.output_claim_to_headers)]
        lowered = [name.lower() for name in outputs if name]
        if len(set(lowered)) < len(lowered):
            raise ValueError("two outputs go to the same header: give each one of its own")
        for name in lowered:
            wire_text.header_name(name)

    @property
    def keys_uri(self) -> str:
        """Both spellings are the API's."""
        return self.jwks_uri or self.jwks_uri_snake

    @property
    def timeout_seconds(self) -> float:
        return sum(float(number) * _UNITS[unit] for number, unit in _PARTS(self.timeout))


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
