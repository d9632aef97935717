"""A program that gives credentials (client.authentication.k8s.io), as a kubeconfig names it under `exec`."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from l4.kubernetes.credentials import ClientCertificate, CredentialsError, Secrets

PLUGIN_SECONDS = 60.0
MAX_PLUGIN_BYTES = 1 << 20
VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Status


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """`where` names the entry of the kubeconfig. `cluster` describes the cluster to the plug-in; None leaves it out."""

    where: str
    version: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    hint: str = ""
    cluster: Mapping[str, Any] | None = None
    seconds: float = PLUGIN_SECONDS
    keep_seconds: float = float("inf")

    async def secrets(self) -> Secrets:
        try:
            answer = msgspec.json.decode(await self._run(), type=_ExecCredential)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._error(f"its output is not an ExecCredential with a status: {error}") from None
        if (answer.api_version, answer.kind) != (self.version, "ExecCredential"):
            raise self._error(f"its output is {answer.api_version} {answer.kind}, not {self.version} ExecCredential")
        status = answer.status
        chain, key, expiry = status.client_certificate_data, status.client_key_data, status.expiration_timestamp
        certificate = ClientCertificate(chain.encode(), key.encode()) if chain and key else None
        if not status.token and certificate is None:
            raise self._error("its answer has neither a token nor a certificate with its key")
        if expiry is not None and expiry.tzinfo is None:
            raise self._error(f"expirationTimestamp {expiry} has no time zone")
        return Secrets(status.token or "", certificate, expiry.timestamp() if expiry else None)

    async def _run(self) -> bytes:
        spec = {"interactive": False} | ({"cluster": self.cluster} if self.cluster is not None else {})
        info = {"apiVersion": self.version, "kind": "ExecCredential", "spec": spec}
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                env={**self.environment, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise self._error(f"it cannot be run: {error.strerror}. {self.hint}".rstrip()) from None
        try:
            async with asyncio.timeout(self.seconds):
                output = await self._output(process)
                code = await process.wait()
        except TimeoutError:
            raise self._error(f"it gave no answer within {self.seconds:g} s") from None
        finally:
            await _end(process)
        if code:
            raise self._error(f"it ended with exit status {code}. {self.hint}".rstrip())
        return output

    async def _output(self, process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        output = b""
        while more := await process.stdout.read(65536):
            output += more
            if len(output) > MAX_PLUGIN_BYTES:
                raise self._error(f"it wrote more than {MAX_PLUGIN_BYTES} bytes")
        return output

    def _error(self, sentence: str) -> CredentialsError:
        return CredentialsError(f"{self.where}.exec: the plug-in {self.command[0]}: {sentence}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the program and what it started, which is all of its session. Its pipe closes once it is read to its end."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while process.stdout is not None and await process.stdout.read(65536):
                    pass
                await process.wait()
