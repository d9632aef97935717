"""Credentials are read again when they are due, and those of before serve while that is right."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l4.kubernetes.credentials import (
    ClientCertificate,
    Credentials,
    CredentialsError,
    Secrets,
    TokenFile,
    Trust,
    in_cluster,
)
from tests.kit.certificates import MeshPki

Given = Secrets | CredentialsError


@dataclass
class Provided:
    """Gives what is listed, one after the other, and the last for ever."""

    given: list[Given]
    keep_seconds: float = 60.0
    calls: int = 0
    gate: asyncio.Event | None = None

    async def secrets(self) -> Secrets:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        it = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        if isinstance(it, CredentialsError):
            raise it
        return it


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    provider: Provided
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.credentials = Credentials("https://server/", Trust(), self.provider, self.clock)

    def token(self) -> str:
        return asyncio.run(self.credentials.current()).token


DOWN = CredentialsError("down")


def test_secrets_are_read_again_when_they_are_due_and_not_before() -> None:
    it = World(Provided([Secrets("one"), Secrets("two")]))

    assert it.token() == "one"
    it.clock.now += 59
    assert it.token() == "one"
    it.clock.now += 1
    assert it.token() == "two"


def test_an_expiry_makes_them_due_well_before() -> None:
    it = World(Provided([Secrets("one", expires_at=1100.0), Secrets("two")], keep_seconds=float("inf")))

    assert it.token() == "one"
    it.clock.now += 79
    assert it.token() == "one"
    it.clock.now += 1
    assert it.token() == "two"


def test_what_has_expired_already_is_read_at_most_each_second() -> None:
    it = World(Provided([Secrets("old", expires_at=10.0)]))

    for _ in range(5):
        it.token()

    assert it.provider.calls == 1


def test_while_reading_fails_the_secrets_of_before_serve_until_their_expiry() -> None:
    it = World(Provided([Secrets("one", expires_at=1100.0), DOWN]))

    assert it.token() == "one"
    it.clock.now += 99
    assert it.token() == "one"
    it.clock.now += 2
    with pytest.raises(CredentialsError, match="down"):
        it.token()


def test_refused_secrets_serve_no_longer_even_if_reading_fails() -> None:
    it = World(Provided([Secrets("one"), DOWN]))
    first = asyncio.run(it.credentials.current())

    it.credentials.refused(first)

    with pytest.raises(CredentialsError, match="down"):
        it.token()


def test_a_late_refusal_of_old_secrets_leaves_the_new_ones() -> None:
    it = World(Provided([Secrets("one"), Secrets("two"), Secrets("three")]))
    first = asyncio.run(it.credentials.current())
    it.credentials.refused(first)
    assert it.token() == "two"

    it.credentials.refused(first)

    assert it.token() == "two"


@pytest.mark.parametrize("given", [Secrets("one"), DOWN])
def test_whoever_waits_shares_one_reading(given: Given) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        it = World(Provided([given], gate=gate))
        waiting = [asyncio.ensure_future(it.credentials.current()) for _ in range(20)]
        await asyncio.sleep(0)
        gate.set()

        results = await asyncio.gather(*waiting, return_exceptions=True)

        assert results == [given] * 20
        assert it.provider.calls == 1

    asyncio.run(scenario())


def test_a_failure_is_not_remembered_for_those_who_come_later() -> None:
    it = World(Provided([DOWN, Secrets("one")]))

    with pytest.raises(CredentialsError):
        it.token()
    assert it.token() == "one"


@pytest.mark.parametrize("token", ["two words", "line\nend", "zwölf", "nul\0"])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    with pytest.raises(CredentialsError, match="not ASCII"):
        World(Provided([Secrets(token)])).token()


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "is empty"), (b"\xff", "cannot be read"), (None, "cannot be read")]
)
def test_a_bad_token_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CredentialsError, match=f"{path} {said}"):
        TokenFile(path).read()


def account(folder: Path) -> Path:
    (folder / "token").write_text("mine\n")
    (folder / "ca.crt").write_bytes(MeshPki(folder / "pki").root_pem)
    return folder


def test_a_pod_finds_its_server_token_and_authorities(tmp_path: Path) -> None:
    its = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, account(tmp_path))

    assert its.server == "https://[fd00::1]:6443"
    assert asyncio.run(its.current()).token == "mine"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_pod_without_its_files_says_which(tmp_path: Path, missing: str) -> None:
    (account(tmp_path) / missing).unlink()

    with pytest.raises(CredentialsError, match=str(tmp_path / missing)):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


def test_outside_a_pod_the_way_out_is_said() -> None:
    with pytest.raises(CredentialsError, match="give --kubeconfig"):
        in_cluster({})


def refused(trust: Callable[[], object]) -> str:
    with pytest.raises(CredentialsError) as error:
        trust()
    return str(error.value)


def test_an_empty_file_of_authorities_does_not_trust_everybodys(tmp_path: Path) -> None:
    empty = tmp_path / "ca.crt"
    empty.touch()

    assert "no certificate of an authority" in refused(lambda: Trust(empty).context(None))
    assert "no certificate of an authority" in refused(lambda: Trust(b" \n").context(None))


def test_a_comment_in_another_language_is_no_hindrance(tmp_path: Path) -> None:
    content = "# Zertifizierungsstelle für alle\n".encode() + MeshPki(tmp_path).root_pem

    assert len(Trust(content).context(None).get_ca_certs()) == 1


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as it

    pair = MeshPki(tmp_path).leaf(["spiffe://a"])
    key = it.load_pem_private_key(pair.key_pem, None)
    locked = key.private_bytes(it.Encoding.PEM, it.PrivateFormat.PKCS8, it.BestAvailableEncryption(b"secret"))

    assert "cannot be used" in refused(lambda: Trust().context(ClientCertificate(pair.chain_pem, locked)))


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Secrets("hush", ClientCertificate(b"chain", b"hush")))
