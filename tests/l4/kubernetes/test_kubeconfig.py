"""A kubeconfig gives credentials, or one sentence with the file, the field and the way to mend it."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.kubernetes.credentials import CredentialsError, Secrets
from l4.kubernetes.exec_plugin import ExecPlugin
from l4.kubernetes.kubeconfig import load
from tests.kit.aio import run
from tests.kit.certificates import MeshPki

SERVER = "https://10.0.0.1:6443"


def config(user: Any = None, cluster: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": SERVER} if cluster is None else cluster}],
        "users": [{"name": "u", "user": {"token": "t"} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    } | more


def written(folder: Path, content: object, name: str = "config") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def secrets(folder: Path, content: object) -> Secrets:
    return run(load(written(folder, content)).current())


def test_a_token_and_the_server_are_read(tmp_path: Path) -> None:
    its = load(written(tmp_path, config()))

    assert its.server == SERVER
    assert run(its.current()).token == "t"


def test_another_context_is_chosen_by_name(tmp_path: Path) -> None:
    more = {"contexts": [{"name": "y", "context": {"cluster": "c"}}], "current-context": None}
    path = written(tmp_path, config(**more))

    assert run(load(path, "y").current()) == Secrets()
    with pytest.raises(CredentialsError, match="current-context: none is set; give --context, one of: y"):
        load(path)


def test_the_first_file_that_has_a_name_wins_and_missing_and_empty_files_are_skipped(tmp_path: Path) -> None:
    first = written(tmp_path, {"users": [{"name": "u", "user": {"token": "first"}}]}, "first")
    files = [tmp_path / "missing", written(tmp_path, "", "empty"), first, written(tmp_path, config(), "second")]

    its = load(environment={"KUBECONFIG": os.pathsep.join(map(str, files))})

    assert run(its.current()).token == "first"


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    pki = MeshPki(tmp_path / "pki")
    pair = pki.leaf(["spiffe://a"])
    (tmp_path / "client.crt").write_bytes(pair.chain_pem)
    (tmp_path / "token").write_text("of-a-file")
    user = {
        "tokenFile": "token",
        "client-certificate": "client.crt",
        "client-key-data": base64.b64encode(pair.key_pem).decode(),
    }
    cluster = {"server": SERVER, "certificate-authority": "pki/root.pem", "tls-server-name": "api"}

    its = load(written(tmp_path, config(user, cluster)))

    given = run(its.current())
    assert given.token == "of-a-file"
    assert given.certificate is not None
    assert given.certificate.chain == pair.chain_pem
    assert its.trust.server_name == "api"
    assert len(its.trust.context(given.certificate).get_ca_certs()) == 1


def test_an_exec_plugin_is_understood(tmp_path: Path) -> None:
    given = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "./plugin",
        "args": ["--region", 7],
        "env": [{"name": "PROFILE", "value": "dev"}],
        "provideClusterInfo": True,
    }
    extension = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}]
    path = written(tmp_path, config({"exec": given}, {"server": SERVER, "extensions": extension}))

    its = load(path, environment={"HOME": "/h"})._provider

    assert isinstance(its, ExecPlugin)
    assert its.command == (str(tmp_path / "plugin"), "--region", "7")
    assert its.environment == {"HOME": "/h", "PROFILE": "dev"}
    assert its.cluster == {"server": SERVER, "config": {"audience": "a"}}


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "p"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", ": the kubeconfig cannot be read: "),
        ("- a", ": list is given where a mapping is expected"),
        (config(contexts={}), ": contexts: none is named 'x'; there are: none"),
        (config(contexts="x"), "contexts: str is given where a list is expected"),
        (config(users=[]), ": users: none is named 'u'; there are: none"),
        (config(clusters=[3, {"name": "d", "cluster": {}}]), ": clusters: none is named 'c'; there are: d"),
        (config(cluster={}), ": clusters[\"c\"].cluster.server: '' is not an address such as https://10.0.0.1:6443"),
        (config(cluster={"server": "https://["}), "server: 'https://[' is not an address"),
        (config(cluster={"server": "10.0.0.1"}), "server: '10.0.0.1' is not an address"),
        (config(cluster={"server": SERVER, "proxy-url": "http://p"}), "cluster.proxy-url: proxies are not supported"),
        (config(cluster={"server": SERVER, "certificate-authority": "no"}), "cluster.certificate-authority: "),
        (config(cluster={"server": SERVER, "certificate-authority-data": "/"}), "-data: this is not base64"),
        (config(cluster={"server": SERVER, "certificate-authority-data": "YQ=="}), "cluster.certificate-authority: "),
        (config({"token": 5}), ': users["u"].user.token: int is given where text is expected; put it in quotes'),
        (config({"tokenFile": "none"}), "the token file "),
        (config({"client-key": "/dev/null"}), 'users["u"].user.client-certificate: it is missing; '),
        (config({"client-key": "/dev/null", "client-certificate": "/dev/null"}), "user.client-certificate: the cert"),
        (config({"username": "a"}), 'users["u"].user.username: API servers take no passwords'),
        (config({"auth-provider": {"name": "a"}}), "user.auth-provider: auth providers were removed"),
        (config({"as": "a"}), "user.as: impersonation is not supported"),
        (config({"exec": "p"}), "user.exec: str is given where a mapping is expected"),
        (config({"exec": {"command": "p"}}), "user.exec.apiVersion: '' is not supported"),
        (config({"exec": EXEC | {"command": None}}), "user.exec.command: it is missing"),
        (config({"exec": EXEC | {"env": [{"name": "a"}]}}), "user.exec.env: an item has no name and value"),
        (config({"exec": EXEC | {"args": "a"}}), "user.exec.args: str is given where a list is expected"),
        (config({"exec": EXEC | {"interactiveMode": "Always"}}), "user.exec.interactiveMode: Always needs a terminal"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_field(tmp_path: Path, content: object, said: str) -> None:
    path = written(tmp_path, content)

    with pytest.raises(CredentialsError) as error:
        load(path)

    assert str(tmp_path) in str(error.value)
    assert said in str(error.value)


def test_null_and_empty_fields_mean_that_nothing_is_given(tmp_path: Path) -> None:
    user = {"token": "t", "username": "", "exec": None, "client-key": None}

    assert secrets(tmp_path, config(user)).token == "t"


def test_no_file_at_all_says_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=f"{tmp_path}/none: there is no kubeconfig; give --kubeconfig"):
        load(tmp_path / "none")
    with pytest.raises(CredentialsError, match="/a, /b: there is no kubeconfig"):
        load(environment={"KUBECONFIG": "/a:/b"})
