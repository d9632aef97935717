"""Exec plug-ins: real programs, good ones and every kind of bad one."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from l4.kubernetes.credentials import CredentialsError, Secrets
from l4.kubernetes.exec_plugin import ExecPlugin
from tests.kit.aio import run

VERSION = "client.authentication.k8s.io/v1"
GOOD: dict[str, Any] = {"apiVersion": VERSION, "kind": "ExecCredential", "status": {"token": "t"}}


def plugin(source: str, seconds: float = 30.0, **more: Any) -> ExecPlugin:
    command = (sys.executable, "-I", "-S", "-c", source)
    return ExecPlugin('config: users["u"].user', VERSION, command, dict(os.environ), seconds=seconds, **more)


def saying(content: object) -> str:
    return f"print({json.dumps(content)!r})"


def said(it: ExecPlugin) -> str:
    with pytest.raises(CredentialsError) as error:
        run(it.secrets())
    assert str(error.value).startswith(f'config: users["u"].user.exec: the plug-in {it.command[0]}: ')
    return str(error.value)


def test_a_token_with_an_expiry_is_taken() -> None:
    status = {"token": "t", "expirationTimestamp": "1970-01-01T00:01:40Z"}

    assert run(plugin(saying(GOOD | {"status": status})).secrets()) == Secrets("t", None, 100.0)


def test_a_certificate_is_taken() -> None:
    status = {"clientCertificateData": "chain", "clientKeyData": "key"}

    certificate = run(plugin(saying(GOOD | {"status": status})).secrets()).certificate

    assert certificate is not None
    assert (certificate.chain, certificate.key) == (b"chain", b"key")


def test_the_plugin_is_told_of_the_cluster_and_that_nobody_answers_questions() -> None:
    answer = f"{GOOD!r} | {{'status': {{'token': os.environ['KUBERNETES_EXEC_INFO']}}}}"
    echo = f"import os, json; print(json.dumps({answer}))"

    told = json.loads(run(plugin(echo, cluster={"server": "https://a"}).secrets()).token)

    assert told["spec"] == {"interactive": False, "cluster": {"server": "https://a"}}
    assert told["apiVersion"] == VERSION


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("no", "not an ExecCredential"),
        ({}, "not an ExecCredential"),
        (GOOD | {"status": {"token": 5}}, "not an ExecCredential"),
        (GOOD | {"status": {}}, "neither a token nor a certificate"),
        (GOOD | {"status": {"clientCertificateData": "chain"}}, "neither a token nor a certificate"),
        (GOOD | {"apiVersion": "client.authentication.k8s.io/v1beta1"}, f"not {VERSION} ExecCredential"),
        (GOOD | {"status": {"token": "t", "expirationTimestamp": "soon"}}, "not an ExecCredential"),
        (GOOD | {"status": {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00"}}, "no time zone"),
    ],
)
def test_an_answer_that_is_no_credential_is_refused(content: object, sentence: str) -> None:
    assert sentence in said(plugin(saying(content)))


def test_a_failing_plugin_says_its_status_and_the_hint() -> None:
    assert said(plugin("raise SystemExit(3)", hint="Log in first.")).endswith("exit status 3. Log in first.")


def test_a_plugin_that_is_not_there_says_the_hint() -> None:
    it = ExecPlugin('config: users["u"].user', VERSION, ("/nowhere/plugin",), {}, "Install it.")

    assert said(it).endswith("it cannot be run: No such file or directory. Install it.")


def test_a_plugin_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = "/bin/sh", "-c", f"sleep 300 & echo $! > {note}; wait"
    it = ExecPlugin('config: users["u"].user', VERSION, command, dict(os.environ), seconds=4.0)

    assert "gave no answer within 4 s" in said(it)

    asyncio.run(_until_ended(int(note.read_text())))


async def _until_ended(pid: int) -> None:
    """A child whose parent is gone may stay a zombie where nobody reaps."""
    async with asyncio.timeout(20):
        while Path(f"/proc/{pid}/stat").exists() and ") Z" not in Path(f"/proc/{pid}/stat").read_text():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)


def test_a_plugin_that_never_stops_talking_is_ended() -> None:
    assert "it wrote more than 1048576 bytes" in said(plugin("while True: print('x' * 65536)"))
