"""The commands that ask read an API server once, and say nothing of a configuration that they could not read whole."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from l4 import configuration
from l4.config.manifest import CLUSTER_SCOPED
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.kit.lints import MESH, route
from waypoint.ask import load
from waypoint.cli import cli

GOLDEN = Path(__file__).parents[2] / "golden" / "mesh.yaml"
BROKEN = route("{backendRefs: [{name: nobody, port: 80}]}")
ASKED = ("--from", "default/client", "--to", "reviews:80")


@dataclass
class World:
    server: KubernetesServer
    kubeconfig: Path

    def apply(self, text: str) -> None:
        for content in yaml.safe_load_all(text):
            self.server.put(self._path(content), content)

    def _path(self, content: dict[str, Any]) -> str:
        version, kind = content["apiVersion"], content["kind"]
        group = f"/apis/{version}" if "/" in version else f"/api/{version}"
        objects = self.server.serve(group, kind, is_namespaced=kind not in CLUSTER_SCOPED)
        if kind not in CLUSTER_SCOPED:
            namespace = content["metadata"].get("namespace", "default")
            objects = f"{group}/namespaces/{namespace}/{objects.rpartition('/')[2]}"
        return f"{objects}/{content['metadata']['name']}"

    async def waypoint(self, *args: str | Path) -> Result:
        """Run a command in a thread, while the server answers."""
        texts = [str(it) for it in (args[0], "--kubeconfig", self.kubeconfig, *args[1:])]
        return await asyncio.to_thread(CliRunner().invoke, cli, texts, terminal_width=1000)


@asynccontextmanager
async def world(folder: Path, text: str = MESH) -> AsyncIterator[World]:
    async with kubernetes_server() as server:
        its = World(server, folder / "kubeconfig")
        cluster, user = {"server": server.address}, {"token": "a"}
        content = {
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "me", "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
            "current-context": "lab",
        }
        its.kubeconfig.write_text(json.dumps(content))
        its.apply(text)
        yield its


def test_what_is_compiled_and_explained_is_the_same_as_from_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, GOLDEN.read_text()) as it:
            for command, *flags in (("compile",), ("explain", "--to", "reviews:9080")):
                flags += ["-o", "json"]
                files = ["--resources"] if command == "explain" else []
                of_files = await asyncio.to_thread(CliRunner().invoke, cli, [command, *files, str(GOLDEN), *flags])
                of_server = await it.waypoint(command, *flags)

                assert (of_server.exit_code, of_server.stderr) == (0, "")
                assert json.loads(of_server.stdout) == json.loads(of_files.stdout)

    run(scenario())


def test_a_problem_names_object_and_field_and_the_summary_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, f"{MESH}\n---\n{BROKEN}") as it:
            text = await it.waypoint("analyze")
            values = await it.waypoint("analyze", "-o", "json")

            version = it.server.version
            field = "spec.rules[0].backendRefs[0].name"
            assert text.exit_code == 1
            assert text.stdout.startswith(
                f"Error [PWP0103] (HTTPRoute default/reviews {field}) resourceVersion {version} "
            )
            assert f"objects at the API server {it.server.address}" in text.stderr
            (problem,) = json.loads(values.stdout)
            assert (problem["origin"], problem["field"]) == ("HTTPRoute default/reviews", field)
            assert problem["reference"] == f"HTTPRoute default/reviews (resourceVersion {version})"

    run(scenario())


def test_the_server_is_asked_for_lists_and_never_for_a_watch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            assert (await it.waypoint("analyze")).exit_code == 0

            assert any("/services?" in line for line in it.server.requests)
            assert not any("watch=" in line for line in it.server.requests)

    run(scenario())


@pytest.mark.parametrize("command", [("analyze",), ("compile",), ("explain", *ASKED), ("replay", "--recorded", "-")])
def test_a_kind_that_may_not_be_listed_leaves_the_question_unanswered(tmp_path: Path, command: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server.forbidden.add("services")
            answer = await it.waypoint(*command)

            assert answer.exit_code == 1
            assert answer.output == (
                f"waypoint: cannot list services at the API server {it.server.address}: /api/v1/services: the emulator "
                "says Forbidden (403 Forbidden); grant the verb list on it, which `kubectl auth can-i list services "
                "--all-namespaces` confirms\n"
            )

    run(scenario())


def test_the_reason_goes_to_standard_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server.forbidden.add("services")
            command = (sys.executable, "-m", "waypoint", "analyze", "--kubeconfig", str(it.kubeconfig))
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
            stdout, stderr = await process.communicate()

            assert (process.returncode, stdout) == (1, b"")
            assert stderr.startswith(b"waypoint: cannot list services at ")

    run(scenario())


def test_of_many_kinds_that_may_not_be_listed_a_few_are_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server.serve("/apis/networking.istio.io/v1", "DestinationRule")
            for kind in ("Pod", "Node", "Namespace", "ConfigMap"):
                it.server.serve("/api/v1", kind)
            it.server.forbidden.update(it.server.served)
            answer = await it.waypoint("analyze")

            assert answer.exit_code == 1
            assert "cannot list configmaps, destinationrules.networking.istio.io, " in answer.output
            assert " and 2 more at the API server " in answer.output
            assert "`kubectl auth can-i list configmaps --namespace istio-system` confirms" in answer.output

    run(scenario())


def test_a_server_that_is_away_is_named_with_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            text = it.kubeconfig.read_text().replace(it.server.address, "http://127.0.0.1:1")
            it.kubeconfig.write_text(text)
            answer = await it.waypoint("explain", *ASKED)

            assert answer.exit_code == 1
            assert answer.output.count("the API server http://127.0.0.1:1") == 1
            assert "check that it is reachable from here, or choose another one with --kubeconfig" in answer.output

    run(scenario())


def test_a_token_that_is_refused_is_told_as_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server.tokens.add("another")
            answer = await it.waypoint("analyze")

            assert answer.exit_code == 1
            assert "mend the credentials in the kubeconfig" in answer.output

    run(scenario())


def test_a_server_that_does_not_answer_is_waited_for_until_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server.hangs = asyncio.Event()
            monkeypatch.setattr(configuration, "READ_SECONDS", 0.3)
            answer = await it.waypoint("analyze")

            assert answer.exit_code == 1
            assert f"the API server {it.server.address} did not answer within 0.3 s" in answer.output

    run(scenario())


def test_a_gateway_that_the_server_does_not_have_is_wrong_usage(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            for command in (("compile",), ("explain", *ASKED)):
                answer = await it.waypoint(*command, "--gateway", "default/nobody")

                assert answer.exit_code == 2
                assert f"there is no Gateway default/nobody at the API server {it.server.address}" in answer.stderr

    run(scenario())


def test_a_context_that_is_missing_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            answer = await it.waypoint("analyze", "--context", "nowhere")

            assert answer.exit_code == 1
            assert answer.output.startswith(f"waypoint: {it.kubeconfig}")
            assert it.server.requests == []

    run(scenario())


def test_files_and_a_server_exclude_each_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            for command in (("analyze", tmp_path), ("compile", tmp_path), ("explain", "--resources", tmp_path, *ASKED)):
                answer = await it.waypoint(*command)

                assert answer.exit_code == 2
                assert "--kubernetes for an API server" in answer.stderr

    run(scenario())


def test_the_shell_completes_the_servers_gateways_and_is_silent_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_COMPLETION_SECONDS", 0.3)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            shell = ShellComplete(cli, {}, "waypoint", "_WAYPOINT_COMPLETE")
            args = ["compile", "--kubeconfig", str(it.kubeconfig), "--gateway"]

            found = await asyncio.to_thread(shell.get_completions, args, "def")
            asked = list(it.server.requests)
            it.server.hangs = asyncio.Event()
            missing = await asyncio.to_thread(shell.get_completions, args, "def")

            assert [completion.value for completion in found] == ["default/waypoint"]
            assert not any("services" in line for line in asked)
            assert missing == []

    run(scenario())
