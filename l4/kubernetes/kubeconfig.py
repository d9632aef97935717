"""A kubeconfig file (kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig).

`KUBECONFIG` may name several files: the first entry of a name wins. Supported are certificates with keys, tokens, token
files and exec plug-ins. Auth providers, passwords, impersonation and proxies are refused by name.
"""

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yarl import URL

from l4.kubernetes.credentials import (
    TOKEN_SECONDS,
    ClientCertificate,
    Credentials,
    CredentialsError,
    Provider,
    Secrets,
    TokenFile,
    Trust,
)
from l4.kubernetes.exec_plugin import VERSIONS, ExecPlugin

_REFUSED = {
    "auth-provider": "auth providers were removed from Kubernetes; use an exec plug-in",
    "username": "API servers take no passwords any more; use a certificate, a token or an exec plug-in",
    "act-as": "impersonation is not supported; use a context of the user itself",
    "as": "impersonation is not supported; use a context of the user itself",
}
_EXTENSION = "client.authentication.k8s.io/exec"
"""The extension of a cluster that an exec plug-in is told as its configuration."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A named entry of a kubeconfig, and the file that it is in: its paths are relative to that file.

    `name` is where it is, such as `users["admin"].user`.
    """

    file: Path
    name: str
    content: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}: {self.name}"

    def error(self, field: str, sentence: str) -> CredentialsError:
        return CredentialsError(f"{self.where}.{field}: {sentence}")

    def text(self, field: str) -> str:
        value = self.content.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(field, f"{type(value).__name__} is given where text is expected; put it in quotes")
        return value

    def items(self, field: str) -> list[Any]:
        value = self.content.get(field) or []
        if not isinstance(value, list):
            raise self.error(field, f"{type(value).__name__} is given where a list is expected")
        return value

    def path(self, field: str) -> Path | None:
        return self.file.parent / text if (text := self.text(field)) else None

    def data(self, field: str) -> bytes | None:
        """What `FIELD-data` holds in base64, or the file that `FIELD` names."""
        if inline := self.text(f"{field}-data"):
            try:
                return base64.b64decode("".join(inline.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.error(f"{field}-data", f"this is not base64: {error}") from None
        path = self.path(field)
        if path is None:
            return None
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.error(field, f"{path} cannot be read: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class User:
    """The token and the certificate of a user's entry. Files are read again, because other programs replace them."""

    entry: Entry
    keep_seconds: float = TOKEN_SECONDS

    async def secrets(self) -> Secrets:
        return self.read()

    def read(self) -> Secrets:
        """Raises CredentialsError."""
        user = self.entry
        path = user.path("tokenFile")
        token = TokenFile(path).read() if path is not None else user.text("token")
        chain, key = user.data("client-certificate"), user.data("client-key")
        if chain is None and key is None:
            return Secrets(token)
        if chain is None or key is None:
            missing = "client-certificate" if chain is None else "client-key"
            raise user.error(missing, "it is missing; client-certificate and client-key belong together")
        return Secrets(token, ClientCertificate(chain, key))


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a configuration, in order."""

    contents: tuple[Entry, ...]

    def find(self, field: str, name: str) -> Entry:
        """The entry of `contexts`, `clusters` or `users` with this name. Raises CredentialsError."""
        one = field.removesuffix("s")
        for file in self.contents:
            for it in file.items(field):
                if isinstance(it, Mapping) and it.get("name") == name and isinstance(it.get(one), Mapping):
                    return Entry(file.file, f'{field}["{name}"].{one}', it[one])
        raise CredentialsError(
            f"{self.contents[0].file}: {field}: none is named {name!r}; there are: {self._in(field)}"
        )

    def current(self) -> str:
        for file in self.contents:
            if name := file.text("current-context"):
                return name
        first = self.contents[0].file
        raise CredentialsError(f"{first}: current-context: none is set; give --context, one of: {self._in('contexts')}")

    def _in(self, field: str) -> str:
        named = (str(it.get("name")) for file in self.contents for it in file.items(field) if isinstance(it, Mapping))
        return ", ".join(named) or "none"


def load(path: Path | None = None, context: str = "", environment: Mapping[str, str] = os.environ) -> Credentials:
    """The credentials of a context, the current one by default. `path` stands in for `KUBECONFIG` and
    `~/.kube/config`. Raises CredentialsError, for files that can't be read as well."""
    paths = [path] if path is not None else list(_paths(environment))
    contents = tuple(it for it in map(_read, paths) if it is not None)
    if not contents:
        looked = ", ".join(map(str, paths))
        raise CredentialsError(f"{looked}: there is no kubeconfig; give --kubeconfig, or set KUBECONFIG")
    files = Files(contents)
    chosen = files.find("contexts", context or files.current())
    cluster = files.find("clusters", chosen.text("cluster"))
    user = files.find("users", name) if (name := chosen.text("user")) else Entry(chosen.file, chosen.name, {})
    trust = _trust(cluster)
    return Credentials(_server(cluster), trust, _provider(user, cluster, environment, trust))


def _paths(environment: Mapping[str, str]) -> Iterator[Path]:
    named = [Path(it) for it in environment.get("KUBECONFIG", "").split(os.pathsep) if it]
    yield from named or [Path.home() / ".kube" / "config"]


def _read(path: Path) -> Entry | None:
    """None where there is no such file."""
    try:
        content = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CredentialsError(f"{path}: the kubeconfig cannot be read: {error}") from None
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise CredentialsError(f"{path}: {type(content).__name__} is given where a mapping is expected")
    return Entry(path, "", content)


def _server(cluster: Entry) -> str:
    server = cluster.text("server")
    try:
        url = URL(server)
        is_good = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        is_good = False
    if not is_good:
        raise cluster.error("server", f"{server!r} is not an address such as https://10.0.0.1:6443")
    if cluster.text("proxy-url"):
        raise cluster.error("proxy-url", "proxies are not supported; use a context without one")
    return server


def _trust(cluster: Entry) -> Trust:
    """Reads the authorities once, so that what is wrong with them is told at once."""
    is_verified = cluster.content.get("insecure-skip-tls-verify") is not True
    trust = Trust(cluster.data("certificate-authority"), cluster.text("tls-server-name"), is_verified)
    try:
        trust.context(None)
    except CredentialsError as error:
        raise cluster.error("certificate-authority", str(error)) from None
    return trust


def _provider(user: Entry, cluster: Entry, environment: Mapping[str, str], trust: Trust) -> Provider:
    for field, sentence in _REFUSED.items():
        if user.content.get(field):
            raise user.error(field, sentence)
    if user.content.get("exec") is not None:
        return _plugin(user, cluster, environment)
    given = User(user)
    certificate = given.read().certificate
    if certificate is not None:
        try:
            trust.context(certificate)
        except CredentialsError as error:
            raise user.error("client-certificate", str(error)) from None
    return given


def _plugin(user: Entry, cluster: Entry, environment: Mapping[str, str]) -> ExecPlugin:
    given = user.content["exec"]
    if not isinstance(given, Mapping):
        raise user.error("exec", f"{type(given).__name__} is given where a mapping is expected")
    entry = Entry(user.file, f"{user.name}.exec", given)
    version, command = entry.text("apiVersion"), entry.text("command")
    if version not in VERSIONS:
        raise entry.error("apiVersion", f"{version!r} is not supported; {' and '.join(VERSIONS)} are")
    if not command:
        raise entry.error("command", "it is missing; name the program that gives the credentials")
    if entry.text("interactiveMode") == "Always":
        raise entry.error("interactiveMode", "Always needs a terminal, and there is none; use IfAvailable or Never")
    if os.sep in command:
        command = str(entry.file.parent / command)
    more = {}
    for it in entry.items("env"):
        if not isinstance(it, Mapping) or not {"name", "value"} <= it.keys():
            raise entry.error("env", "an item has no name and value")
        more[str(it["name"])] = str(it["value"])
    told = _told(cluster) if given.get("provideClusterInfo") is True else None
    arguments = tuple(map(str, entry.items("args")))
    return ExecPlugin(
        user.where, version, (command, *arguments), {**environment, **more}, entry.text("installHint"), told
    )


def _told(cluster: Entry) -> dict[str, Any]:
    """What `provideClusterInfo` promises to a plug-in."""
    authorities = cluster.data("certificate-authority")
    extensions = (it for it in cluster.items("extensions") if isinstance(it, Mapping))
    told = {
        "server": cluster.text("server"),
        "tls-server-name": cluster.text("tls-server-name"),
        "insecure-skip-tls-verify": cluster.content.get("insecure-skip-tls-verify") is True,
        "certificate-authority-data": base64.b64encode(authorities).decode() if authorities else "",
        "config": next((it.get("extension") for it in extensions if it.get("name") == _EXTENSION), None),
    }
    return {name: value for name, value in told.items() if value}
