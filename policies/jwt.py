"""JSON Web Tokens (RFC 7519), checked as Istio's RequestAuthentication does.

A token is parsed, checked against the rule of its issuer, and then its signature is verified. The first failure is
reported, in Envoy's words. A request without a token passes without claims, unless a rule requires a token; to demand a
token is otherwise the task of authorization. `Verifier` gives access to keys. A token never decides where its key comes
from: `jku`, `x5u` and similar headers are ignored.
https://istio.io/latest/docs/reference/config/security/request_authentication/
"""

import base64
import re
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from policies import wire_text
from policies.attributes import Headers, RequestHead
from policies.claims import Claims
from policies.token_locations import DEFAULT_LOCATIONS, Location, ParamLocation
from policies.wire_text import HeaderName, HeaderValue

MAX_TOKEN_BYTES = 8 << 10
SKEW_SECONDS = 60
"""Tolerated difference between the clocks of issuer and verifier; Envoy's value."""
ALGORITHMS = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)) | {"EdDSA"}
LISTS_OF_WORDS = ("permission", "scope")
"""Claims with space-delimited values (RFC 8693 section 4.2, and Istio's default)."""
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*").fullmatch
_MAX_REALM_PATH = 256


class Failure(StrEnum):
    """Why a token is rejected, as reported to the client. The texts are Envoy's."""

    MISSING = "Jwt is missing"
    BAD_FORM = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
    HEADER_NOT_BASE64 = "Jwt header is an invalid Base64url encoded"
    HEADER_NOT_JSON = "Jwt header is an invalid JSON"
    NO_ALGORITHM = "Jwt header [alg] field is required and must be a string"
    UNKNOWN_ALGORITHM = "Jwt header [alg] is not supported"
    BAD_KID = "Jwt header [kid] field is not a string"
    PAYLOAD_NOT_BASE64 = "Jwt payload is an invalid Base64url encoded"
    PAYLOAD_NOT_JSON = "Jwt payload is an invalid JSON"
    BAD_ISS = "Jwt payload [iss] field is not a string"
    BAD_SUB = "Jwt payload [sub] field is not a string"
    BAD_IAT = "Jwt payload [iat] field is not an integer"
    BAD_NBF = "Jwt payload [nbf] field is not an integer"
    BAD_EXP = "Jwt payload [exp] field is not an integer"
    NEGATIVE_IAT = "Jwt payload [iat] field is not a positive 64 bit integer"
    NEGATIVE_NBF = "Jwt payload [nbf] field is not a positive 64 bit integer"
    NEGATIVE_EXP = "Jwt payload [exp] field is not a positive 64 bit integer"
    BAD_JTI = "Jwt payload [jti] field is not a string"
    BAD_AUD = "Jwt payload [aud] field is not a string or string list"
    SIGNATURE_NOT_BASE64 = "Jwt signature is an invalid Base64url encoded"
    UNKNOWN_ISSUER = "Jwt issuer is not configured"
    NOT_YET_VALID = "Jwt not yet valid"
    EXPIRED = "Jwt is expired"
    WRONG_AUDIENCE = "Audiences in Jwt are not allowed"
    KEYS_NOT_FETCHED = "Jwks remote fetch is failed"
    NO_VALID_KEY = "Jwks doesn't have any valid public key"
    UNKNOWN_KEY = "Jwks doesn't have key to match kid or alg from Jwt"
    WRONG_SIGNATURE = "Jwt verification fails"

    @property
    def status(self) -> int:
        return 403 if self is Failure.WRONG_AUDIENCE else 401


class InvalidToken(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


# -- a token -------------------------------------------------------------------------------------------------------


@dataclass(slots=True, repr=False)
class Token:
    """A parsed token that is not verified yet. `payload` is in base64url as received; `signature` signs `signed`."""

    algorithm: str
    kid: str
    claims: dict[str, Any]
    audiences: tuple[str, ...]
    payload: bytes
    signed: bytes
    signature: bytes

    @property
    def size(self) -> int:
        return len(self.signed) + len(self.signature)

    @classmethod
    def parse(cls, raw: bytes) -> "Token":
        """Parse a token. Raises InvalidToken."""
        parts = raw.split(b".")
        if len(parts) != 3 or not all(parts) or len(raw) > MAX_TOKEN_BYTES:
            raise InvalidToken(Failure.BAD_FORM)
        header = _object(_decoded(parts[0], Failure.HEADER_NOT_BASE64), Failure.HEADER_NOT_JSON)
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str):
            raise InvalidToken(Failure.NO_ALGORITHM)
        if algorithm not in ALGORITHMS or "crit" in header:  # RFC 7515 4.1.11: what must be understood, and isn't
            raise InvalidToken(Failure.UNKNOWN_ALGORITHM)
        if not isinstance(kid, str):
            raise InvalidToken(Failure.BAD_KID)
        claims = _object(_decoded(parts[1], Failure.PAYLOAD_NOT_BASE64), Failure.PAYLOAD_NOT_JSON)
        audiences = _checked(claims)
        signature = _decoded(parts[2], Failure.SIGNATURE_NOT_BASE64)
        return cls(algorithm, kid, claims, audiences, parts[1], raw[: raw.rindex(b".")], signature)


def _decoded(part: bytes, failure: Failure) -> bytes:
    if _BASE64URL(part) is None or len(part) % 4 == 1:
        raise InvalidToken(failure)
    return base64.urlsafe_b64decode(part + b"==")


def _object(text: bytes, failure: Failure) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidToken(failure) from None
    if not isinstance(value, dict):
        raise InvalidToken(failure)
    return value


def _checked(claims: dict[str, Any]) -> tuple[str, ...]:
    """Check the types of registered claims (RFC 7519 section 4.1) and return the audiences."""
    for name, failure in (("iss", Failure.BAD_ISS), ("sub", Failure.BAD_SUB), ("jti", Failure.BAD_JTI)):
        if not isinstance(claims.get(name, ""), str):
            raise InvalidToken(failure)
    for name, failure, negative in _TIMES:
        value = claims.get(name, 0)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidToken(failure)
        if not 0 <= value < 1 << 64:
            raise InvalidToken(negative)
    audiences = claims.get("aud", [])
    audiences = [audiences] if isinstance(audiences, str) else audiences
    if not isinstance(audiences, list) or not all(isinstance(it, str) for it in audiences):
        raise InvalidToken(Failure.BAD_AUD)
    return tuple(map(plain_audience, audiences))


_TIMES = (
    ("iat", Failure.BAD_IAT, Failure.NEGATIVE_IAT),
    ("nbf", Failure.BAD_NBF, Failure.NEGATIVE_NBF),
    ("exp", Failure.BAD_EXP, Failure.NEGATIVE_EXP),
)


def plain_audience(text: str) -> str:
    """Return an audience without scheme and trailing slashes, as Envoy compares them."""
    return re.sub(r"^https?://", "", text).rstrip("/")


# -- what is asked of tokens ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InlineKeys:
    """A JWK Set in the configuration. It may contain secrets, so only its digest is ever shown."""

    digest: str
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """A JWK Set at `uri`, or, if `is_discovered`, at the address in the OpenID configuration at `uri`."""

    uri: str
    is_discovered: bool = False
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class JwtRule:
    """The rule for tokens of one issuer.

    `keys` is None if they are unusable; every token of the issuer is then rejected. A rule with an empty `issuer`
    accepts no token. If rules have `is_required`, one of them must accept a token of the request.
    """

    issuer: str
    keys: InlineKeys | RemoteKeys | None
    audiences: tuple[str, ...] = ()
    locations: tuple[Location, ...] = DEFAULT_LOCATIONS
    payload_header: HeaderName | None = None
    claim_headers: tuple[tuple[HeaderName, str], ...] = ()
    is_forwarded: bool = False
    space_delimited: tuple[str, ...] = LISTS_OF_WORDS
    is_required: bool = False

    @property
    def output_headers(self) -> tuple[HeaderName, ...]:
        own = (self.payload_header,) if self.payload_header else ()
        return (*own, *(name for name, _ in self.claim_headers))

    def judge(self, raw: bytes, now: float, verifier: "Verifier") -> Token | Failure:
        """Check and verify a token. Returns the parsed token or the failure."""
        try:
            token = verifier.token(raw)
        except InvalidToken as error:
            return error.failure
        claims = token.claims
        if not self.issuer or claims.get("iss") != self.issuer:
            return Failure.UNKNOWN_ISSUER
        if now + SKEW_SECONDS < claims.get("nbf", 0):
            return Failure.NOT_YET_VALID
        if "exp" in claims and now > claims["exp"] + SKEW_SECONDS:
            return Failure.EXPIRED
        if self.audiences and not any(it in self.audiences for it in token.audiences):
            return Failure.WRONG_AUDIENCE
        return verifier.verify(token, self.keys) or token

    def claims_of(self, token: Token) -> Claims:
        """Return the token's claims, with space-delimited values split into lists."""
        values = token.claims
        lists = {name: values[name].split() for name in self.space_delimited if isinstance(values.get(name), str)}
        return Claims({**values, **lists} if lists else values)

    def outputs(self, token: Token) -> Headers:
        """Return the headers that pass the token's payload and claims to the endpoint."""
        headers: Headers = [(self.payload_header, token.payload)] if self.payload_header else []
        for name, claim in self.claim_headers:
            value = _as_header(_claim(token.claims, claim))
            if value is not None:
                headers.append((name, value))
        return headers


def _claim(claims: Any, name: str) -> Any:
    """Return the claim with this name. Dots in the name are part of it, or separate nested claims."""
    if not isinstance(claims, dict) or name in claims:
        return claims[name] if isinstance(claims, dict) else None
    dots = (index for index, character in enumerate(name) if character == ".")
    found = (_claim(claims[name[:dot]], name[dot + 1 :]) for dot in dots if name[:dot] in claims)
    return next((it for it in found if it is not None), None)


def _as_header(value: Any) -> HeaderValue | None:
    """Format a string, number or boolean as a header value. None if it cannot be one."""
    match value:
        case bool():
            return wire_text.header_value("true" if value else "false")
        case int() | float():
            return wire_text.header_value(str(value))
        case str():
            with suppress(ValueError):
                return wire_text.header_value(value.strip().encode("utf-8", "replace"))
    return None


class Verifier(Protocol):
    def token(self, raw: bytes) -> Token:
        """Parse a token. Raises InvalidToken."""

    def verify(self, token: Token, keys: InlineKeys | RemoteKeys | None) -> Failure | None:
        """Return None if one of the keys signed the token, else the failure."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """The token rules of a destination. One accepted token is enough if there are several tokens or rules."""

    rules: tuple[JwtRule, ...]
    _judging: tuple[JwtRule, ...] = field(init=False, repr=False, compare=False)
    """The rules, required ones first."""
    _outputs: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _params: tuple[ParamLocation, ...] = field(init=False, repr=False, compare=False)
    secret_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """Names of headers, parameters and cookies that hold tokens."""
    header_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """Names of headers that hold tokens or that pass claims to the endpoint."""

    def __post_init__(self) -> None:
        locations = {location: None for rule in self.rules for location in rule.locations}
        outputs = frozenset(name for rule in self.rules for name in rule.output_headers)
        object.__setattr__(self, "_judging", tuple(sorted(self.rules, key=lambda it: not it.is_required)))
        object.__setattr__(self, "_outputs", outputs)
        object.__setattr__(self, "_params", tuple(it for it in locations if isinstance(it, ParamLocation)))
        secrets = frozenset(it.name for it in locations)
        object.__setattr__(self, "secret_names", secrets)
        object.__setattr__(self, "header_names", secrets | outputs)

    def authenticate(self, head: RequestHead, now: float, verifier: Verifier) -> Claims | Failure | None:
        """Authenticate a request. Returns None if it has no token and none is required.

        Edits the head for the endpoint: headers that pass claims are removed if the client sent them, and the accepted
        token is removed unless the rule forwards it.
        """
        if self._outputs and any(name in self._outputs for name, _ in head.headers):
            head.headers[:] = [header for header in head.headers if header[0] not in self._outputs]
        if is_preflight(head):
            return None
        failures: list[Failure] = []
        is_required = self._judging[0].is_required
        for rule in self._judging:
            if is_required and not rule.is_required:
                break
            for location in rule.locations:
                raw = location.find(head)
                if raw is None:
                    continue
                token = rule.judge(raw, now, verifier)
                if not isinstance(token, Failure):
                    if not rule.is_forwarded:
                        location.remove(head)
                    head.headers += rule.outputs(token)
                    return rule.claims_of(token)
                failures.append(token)
        telling = (failure for failure in failures if failure is not Failure.UNKNOWN_ISSUER)
        return next(telling, failures[-1] if failures else Failure.MISSING if is_required else None)

    def concealed(self, head: RequestHead) -> bytes:
        """Return the request's target with tokens redacted."""
        query = head.query
        for param in self._params if query else ():
            query = param.concealed(query)
        return b"%b?%b" % (head.path, query) if head.has_query else head.path


def is_preflight(head: RequestHead) -> bool:
    """Whether this is a CORS preflight, which never carries credentials (Fetch, section 4.8)."""
    return head.method == b"OPTIONS" and bool(head.get(b"origin")) and bool(head.get(b"access-control-request-method"))


def challenge(head: RequestHead) -> bytes:
    """Return `www-authenticate` for a rejected token (RFC 6750 section 3).

    It leaves out the query, which may hold a token.
    """
    path = head.path[:_MAX_REALM_PATH].replace(b"\\", b"%5C").replace(b'"', b"%22")
    scheme = b"https" if head.get(b"x-forwarded-proto") == b"https" else b"http"
    return b'Bearer realm="%b://%b%b", error="invalid_token"' % (scheme, head.authority, path)
