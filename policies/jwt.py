"""JSON Web Tokens (RFC 7519) as Istio's RequestAuthentication has them checked: who vouches for a request's sender.

A token is read, then compared with the rule of its issuer, then its signature is checked; the first thing that is
wrong is said in Envoy's words. A request without a token passes, and has no claims, unless a rule requires one; else it
is for authorization to say that a token is needed. Whoever holds the keys is asked through `Verifier`; nothing in a
token ever says where its key is (`jku`, `x5u` and the like are not looked at).
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
"""How far the clocks of those who issue and of those who check may be apart; Envoy's value."""
ALGORITHMS = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)) | {"EdDSA"}
LISTS_OF_WORDS = ("permission", "scope")
"""Claims that are words between blanks (RFC 8693 section 4.2, and Istio's)."""
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*").fullmatch
_MAX_REALM_PATH = 256


class Failure(StrEnum):
    """Why a token is not accepted, as it is told to whoever sent it."""

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
    """What a token says, before anybody knows whether it is true. `payload` is in base64url as it came; `signature` is
    that of `signed`."""

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
        """Raises InvalidToken."""
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
    """The audiences, when all registered claims are of their types (RFC 7519 section 4.1)."""
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
    """As Envoy compares them: without scheme and slashes at the end."""
    return re.sub(r"^https?://", "", text).rstrip("/")


# -- what is asked of tokens ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InlineKeys:
    """A JWK Set that stands in the configuration. It may hold secrets, so that only its digest is ever shown."""

    digest: str
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """A JWK Set at `uri`, or at the address that the OpenID configuration at `uri` names."""

    uri: str
    is_discovered: bool = False
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class JwtRule:
    """`keys` is None where they can't be used: every token of the issuer is refused then. An empty `issuer` is
    nobody's. Of the rules that are required one must accept a token of the request."""

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
        """With those claims as lists that are words between blanks."""
        values = token.claims
        lists = {name: values[name].split() for name in self.space_delimited if isinstance(values.get(name), str)}
        return Claims({**values, **lists} if lists else values)

    def outputs(self, token: Token) -> Headers:
        """The headers that tell the endpoint what the token says."""
        headers: Headers = [(self.payload_header, token.payload)] if self.payload_header else []
        for name, claim in self.claim_headers:
            value = _as_header(_claim(token.claims, claim))
            if value is not None:
                headers.append((name, value))
        return headers


def _claim(claims: Any, name: str) -> Any:
    """The claim of that name, dots and all; else one inside of others, whose names stand between the dots."""
    if not isinstance(claims, dict) or name in claims:
        return claims[name] if isinstance(claims, dict) else None
    dots = (index for index, character in enumerate(name) if character == ".")
    found = (_claim(claims[name[:dot]], name[dot + 1 :]) for dot in dots if name[:dot] in claims)
    return next((it for it in found if it is not None), None)


def _as_header(value: Any) -> HeaderValue | None:
    """Strings, numbers and truth values; nothing that would end the header before its time."""
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
        """Raises InvalidToken."""

    def verify(self, token: Token, keys: InlineKeys | RemoteKeys | None) -> Failure | None:
        """None: one of the keys has signed it."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """The rules that hold at a destination, by issuer. Of several tokens and rules one that fits is enough."""

    rules: tuple[JwtRule, ...]
    _judging: tuple[JwtRule, ...] = field(init=False, repr=False, compare=False)
    """The rules, those first that are required."""
    _outputs: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _params: tuple[ParamLocation, ...] = field(init=False, repr=False, compare=False)
    secret_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """Of headers, parameters and cookies that hold tokens."""
    header_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """Of headers that hold tokens, or tell what tokens say."""

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
        """None when there is no token, and none is required. The head is edited into what the endpoint may see: what
        tokens say is told by nobody but us, and the token that counts is taken away unless it is to be forwarded."""
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
        """The request's target without the tokens in it."""
        query = head.query
        for param in self._params if query else ():
            query = param.concealed(query)
        return b"%b?%b" % (head.path, query) if head.has_query else head.path


def is_preflight(head: RequestHead) -> bool:
    """A browser's question that goes before a request, and never carries credentials (Fetch, section 4.8)."""
    return head.method == b"OPTIONS" and bool(head.get(b"origin")) and bool(head.get(b"access-control-request-method"))


def challenge(head: RequestHead) -> bytes:
    """`www-authenticate` for a token that is not accepted (RFC 6750 section 3). The query, which may hold a token, is
    not repeated."""
    path = head.path[:_MAX_REALM_PATH].replace(b"\\", b"%5C").replace(b'"', b"%22")
    scheme = b"https" if head.get(b"x-forwarded-proto") == b"https" else b"http"
    return b'Bearer realm="%b://%b%b", error="invalid_token"' % (scheme, head.authority, path)
