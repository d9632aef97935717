"""`waypoint mesh up`: run a mesh on one machine, from manifests to a browser, until Ctrl-C.

    manifests ──► plan ──► certificates, overlay ──► programs, ztunnel, waypoints
        ▲                          ▲                              │
      edits                        └────────── readiness ◄────────┘

Routes and policies do not take this path: the proxies read the manifests themselves. Stopping goes from the outside in:
first the ingress, so that no new request arrives; then the proxies, which drain; then the programs.
"""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvloop

from l4.asking.laptop import folder
from l4.config.folder import FolderSource
from l4.config.source import in_a_thread
from l4.identity.authority import AuthorityError
from l4.net.listener import CannotListen
from policies.host_port import host_port
from waypoint.mesh.display import Display
from waypoint.mesh.laptop import CannotStart, Laptop, MeshOptions
from waypoint.mesh.launches import METRICS_PORT, Layout, proxies_of
from waypoint.mesh.plan import Mesh
from waypoint.mesh.running import AlreadyRunning, only_one
from waypoint.mesh.supervisor import VitalProgramFailed


def run_mesh(options: MeshOptions) -> int:
    """Run the mesh. Returns the exit status: 0 after Ctrl-C, 1 if it could not start, 130 after a second Ctrl-C."""
    display = Display()
    try:
        with only_one(folder(options.environment)):
            return _run(options, display)
    except (AlreadyRunning, OSError) as error:
        display.say(f"error: {error}", "red")
        return 1


def _run(options: MeshOptions, display: Display) -> int:
    status = 0
    with _run_directory(options.run_directory) as run, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_until_stopped(options, Layout(run), display))
        except* (CannotStart, VitalProgramFailed, AuthorityError) as failures:
            status = 1
            display.rest()
            for failure in failures.exceptions:
                display.say(f"error: {failure}", "red")
        except* asyncio.CancelledError:
            status = 130
    return status


@contextmanager
def _run_directory(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="waypoint-mesh-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


async def _until_stopped(options: MeshOptions, layout: Layout, display: Display) -> None:
    stopped = _stop_event(display)
    async with asyncio.TaskGroup() as tasks:
        laptop = Laptop(options, layout, display, tasks)
        source = FolderSource(options.manifests)
        laptop.follow(laptop.read(await source.load()))
        laptop.start()
        async with _console(laptop, options):
            background = [
                tasks.create_task(source.watch(in_a_thread(laptop.read, laptop.follow))),
                tasks.create_task(laptop.renew_certificates()),
                tasks.create_task(laptop.tell_news()),
                tasks.create_task(_announce(laptop, options, layout, display)),
            ]
            await stopped.wait()
            for task in background:
                task.cancel()
        await laptop.stop()
        display.rest()


@asynccontextmanager
async def _console(laptop: Laptop, options: MeshOptions) -> AsyncIterator[None]:
    from waypoint.console.server import Console  # only now: its HTTP client cannot be loaded on every system
    from waypoint.mesh.console import AskedProxies

    proxies = AskedProxies(lambda: proxies_of(laptop.mesh))
    console = Console(proxies.current)
    try:
        await console.start(options.console)
    except CannotListen as error:
        raise CannotStart(f"{error} (choose another address with --console)") from None
    try:
        yield
    finally:
        await console.close()
        await proxies.close()


def _stop_event(display: Display) -> asyncio.Event:
    """Set by the first signal. The second signal aborts draining."""
    stopped = asyncio.Event()
    main = asyncio.current_task()
    assert main is not None

    def interrupt() -> None:
        if stopped.is_set():
            main.cancel()
        else:
            stopped.set()
            display.say("stopping; press Ctrl-C again to stop immediately")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    return stopped


async def _announce(laptop: Laptop, options: MeshOptions, layout: Layout, display: Display) -> None:
    await laptop.ready()
    display.table([*_addresses(laptop.mesh, options), ("logs", str(layout.logs), "one file per program")])
    for file in sorted(laptop.route_files):
        display.say(f"Try next: edit and save {file}; the next request uses the change.")
    display.say("Ctrl-C stops everything.")


def _addresses(mesh: Mesh, options: MeshOptions) -> Iterator[tuple[str, str, str]]:
    for ingress in options.ingresses:
        host, port = ingress.listen
        yield "page", f"http://{host}:{port}/", f"{ingress}, through the mesh"
    yield "console", f"http://{host_port(*options.console)}/", "what the mesh does now"
    for proxy in proxies_of(mesh):
        address, port = proxy.admin
        yield "metrics", f"http://{address}:{METRICS_PORT}/metrics", proxy.name
        yield "admin", f"http://{address}:{port}/", proxy.name
