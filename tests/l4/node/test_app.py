"""The agent and the ztunnel of a node, as the two programs that they are."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from l4.ztunnel.cli import cli
from tests.kit.aio import run
from tests.kit.kubernetes_server import kubernetes_server
from tests.kit.mesh import settled
from tests.kit.pod_network import needs_namespaces
from tests.l4.ztunnel.test_cli import running

pytestmark = needs_namespaces

_PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, uid: 0f3b6d5e-1c1f-4f3e-9a53-6d3f5f1c2b7b, labels: {istio.io/dataplane-mode: ambient}}
spec: {nodeName: here}
status: {phase: Running, podIP: 10.0.0.7}
"""


_KUBECONFIG = """
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
clusters: [{{name: here, cluster: {{server: "{}"}}}}]
users: [{{name: me, user: {{token: secret}}}}]
"""


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _command(socket: Path, *more: str) -> list[str]:
    ports = (word for name in ("metrics", "readiness", "admin") for word in (f"--{name}", "127.0.0.1:0"))
    program = (sys.executable, "-m", "l4.ztunnel.cli", "agent", "run")
    return [*program, "--node", "here", "--socket", str(socket), *ports, *more]


@contextmanager
def agent(folder: Path, socket: Path) -> Iterator[Path]:
    """Yield the file that it writes its messages to."""
    (folder / "agent").mkdir()
    (folder / "agent/pods.yaml").write_text(_PODS)
    log = folder / "agent.log"
    command = _command(socket, "--resources", str(folder / "agent"))
    with log.open("wb") as err, subprocess.Popen(command, stderr=err) as it:
        try:
            yield log
            it.terminate()
            assert it.wait(20) == 0
        finally:
            it.kill()


def test_the_ztunnel_is_ready_while_the_agent_announces_and_the_agent_tells_what_it_lacks(tmp_path: Path) -> None:
    socket = tmp_path / "run/ztunnel.sock"
    with agent(tmp_path, socket) as log:
        until(socket.exists)
        with running(tmp_path, "--agent", str(socket)) as ztunnel:
            assert ztunnel.ready() == 200
            until(lambda: "pod default/web has no process yet" in log.read_text())
            until(lambda: "a ztunnel has connected" in log.read_text())
            log.parent.joinpath("agent/pods.yaml").write_text("# nothing\n")
        until(lambda: "the connection of a ztunnel has ended" in log.read_text())


def test_the_ztunnel_is_not_ready_once_its_agent_has_gone(tmp_path: Path) -> None:
    socket = tmp_path / "run/ztunnel.sock"
    with ExitStack() as stack:
        with agent(tmp_path, socket):
            until(socket.exists)
            ztunnel = stack.enter_context(running(tmp_path, "--agent", str(socket)))
        until(lambda: ztunnel.ready() == 503)
        assert f"the node's agent at {socket} announces nothing" in ztunnel.readiness_text()


def test_an_agent_that_is_uninstalled_follows_only_pods_of_its_node_and_says_that_it_redirects_none(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with kubernetes_server() as server:
            for path, kind in (("/api/v1", "Pod"), ("/api/v1", "Namespace"), ("/apis/apps/v1", "DaemonSet")):
                server.serve(path, kind, is_namespaced=kind != "Namespace")
            place = {"spec": {"nodeName": "here"}, "status": {"phase": "Running", "podIP": "10.0.0.7"}}
            for name, node in (("web", "here"), ("other", "elsewhere")):
                its = {"labels": {"istio.io/dataplane-mode": "ambient"}, "uid": f"0f3b6d5e-{name}"}
                spec = {"spec": {"nodeName": node}}
                server.put(f"/api/v1/namespaces/default/pods/{name}", {"metadata": its} | place | spec)
            server.put("/apis/apps/v1/namespaces/mesh/daemonsets/agent", {})
            kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "agent.log"
            kubeconfig.write_text(_KUBECONFIG.format(server.address))
            flags = ["--kubeconfig", str(kubeconfig), "--daemon-set", "mesh/agent"]
            command = _command(tmp_path / "run/ztunnel.sock", *flags)
            with log.open("wb") as err:
                process = await asyncio.create_subprocess_exec(*command, stderr=err)
            try:
                await settled(lambda: "pod default/web has no process yet" in log.read_text(), 20)
                await settled(lambda: any("daemonsets" in it.path for it, _ in server.watches), 20)
                asked = {it.path: it.query.get("fieldSelector") for it, _ in server.watches}
                assert asked == {
                    "/api/v1/pods": "spec.nodeName=here",
                    "/api/v1/namespaces": None,
                    "/apis/apps/v1/namespaces/mesh/daemonsets": "metadata.name=agent",
                }

                server.remove("/apis/apps/v1/namespaces/mesh/daemonsets/agent")
                await settled(lambda: "DaemonSet mesh/agent is gone: no pod is redirected" in log.read_text(), 20)
                process.terminate()
                assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
            assert "default/other" not in log.read_text()

    run(scenario(), 60)


@pytest.mark.parametrize("name", ["agent", "/agent", "mesh/", "mesh/agent/1"])
def test_a_daemon_set_is_named_with_its_namespace(name: str) -> None:
    result = CliRunner().invoke(cli, ["agent", "run", "--node", "here", "--kubernetes", "--daemon-set", name])

    assert result.exit_code == 2
    assert "NAMESPACE/NAME" in result.output


def test_files_have_no_daemon_set(tmp_path: Path) -> None:
    flags = ["--node", "here", "--resources", str(tmp_path), "--daemon-set", "mesh/agent"]
    result = CliRunner().invoke(cli, ["agent", "run", *flags])

    assert result.exit_code == 2
    assert "--daemon-set is looked up in an API server" in result.output
