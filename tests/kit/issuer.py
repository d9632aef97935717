"""A token issuer: keys of every kind, tokens signed by them, and a server for the public keys."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.kit.mesh import address

ISSUER = "https://issuer.example.com"
_ALGORITHMS = get_default_algorithms()
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@dataclass
class SigningKey:
    kid: str
    algorithm: str
    private: Any
    jwk: dict[str, Any]

    @classmethod
    def generate(cls, algorithm: str = "ES256", kid: str = "key") -> "SigningKey":
        private: Any
        if algorithm == "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == "EdDSA-448":
            algorithm, private = "EdDSA", ed448.Ed448PrivateKey.generate()
        elif algorithm[:2] == "HS":
            private = b"0123456789abcdef" * 4
        elif algorithm[:2] == "ES":
            private = ec.generate_private_key(_CURVES[algorithm]())
        else:
            private = rsa.generate_private_key(65537, 2048)
        public = private if isinstance(private, bytes) else private.public_key()
        jwk = _ALGORITHMS[algorithm].to_jwk(public, as_dict=True)
        return cls(kid, algorithm, private, {**jwk, "kid": kid})

    def sign(self, claims: Any, **header: Any) -> str:
        """Return a token. `header` adds and replaces fields; None removes one."""
        fields = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}
        head = json.dumps({name: value for name, value in fields.items() if value is not None})
        signed = base64url(head.encode()) + b"." + base64url(json.dumps(claims).encode())
        return (signed + b"." + base64url(_ALGORITHMS[self.algorithm].sign(signed, self.private))).decode()


def jwks(*keys: SigningKey) -> str:
    return json.dumps({"keys": [key.jwk for key in keys]})


@dataclass
class KeyServer:
    """Answers `/jwks` with `text`, and `/.well-known/openid-configuration` with the address of that, unless `status` is
    not 200."""

    uri: str
    text: str
    status: int = 200
    is_stuck: bool = False
    fetches: int = 0
    more: dict[str, str] = field(default_factory=dict)

    @property
    def jwks_uri(self) -> str:
        return f"{self.uri}/jwks"

    async def answer(self, request: web.Request) -> web.Response:
        self.fetches += 1
        while self.is_stuck:  # noqa: ASYNC110 - a test decides when it ends
            await asyncio.sleep(0.01)
        return web.Response(text=self.text, status=self.status, headers=self.more)

    async def discover(self, request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.uri, "jwks_uri": self.jwks_uri})


@asynccontextmanager
async def key_server(text: str) -> AsyncIterator[KeyServer]:
    host = address()
    server = KeyServer(f"http://{host}:8000", text)
    app = web.Application()
    app.router.add_get("/jwks", server.answer)
    app.router.add_get("/.well-known/openid-configuration", server.discover)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, 8000).start()
    try:
        yield server
    finally:
        server.is_stuck = False
        await runner.cleanup()
