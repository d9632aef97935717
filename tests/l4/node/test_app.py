"""The agent and the ztunnel of a node, as the two programs that they are."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def agent(folder: Path, socket: Path) -> Iterator[Path]:
    """Yield the file that it writes its messages to."""
    (folder / "agent").mkdir()
    (folder / "agent/pods.yaml").write_text(_PODS)
    log = folder / "agent.log"
    ports = (word for name in ("metrics", "readiness", "admin") for word in (f"--{name}", "127.0.0.1:0"))
    command = ["agent", "run", "--node", "here", "--resources", str(folder / "agent"), "--socket", str(socket), *ports]
    with log.open("wb") as err, subprocess.Popen([sys.executable, "-m", "l4.ztunnel.cli", *command], stderr=err) as it:
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
