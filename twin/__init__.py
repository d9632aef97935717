"""The compiled twin: Cython compiles the hot modules from the very same source that runs without a compiler.

The text of a module is edited at a few places that its syntax tree names, and no line moves, so that a traceback names
the right one. A struct is a class with `__slots__`, written by hand or by `@dataclass`, without a base or with another
struct as its base. It goes without asyncio's interfaces, and calls its base's methods by the base's name; a dataclass
goes without `slots=True`, and gets a `__repr__`; a frozen one assigns to its fields without `object.__setattr__`. What
makes Cython quick, the types of fields, parameters and locals, is read from the source's own annotations into a `.pxd`.
Nothing is declared twice.

Whatever isn't known to mean the same when it is compiled is `Refused`. What remains different, on purpose:

- A field that nothing was assigned to, or that was deleted, is None. It is not missing.
- A struct, its class attributes and the functions of a module can't be replaced: who calls them is bound to them.
- An inner function of a coroutine or a generator keeps all of its variables, not only those that it uses. If one of
  these keeps the function, that is a reference cycle: let it keep a `partial` or a method.
- A value of a wrong type for a field, parameter or local raises TypeError, where mypy would have said so.
"""

import os
import shutil
import sysconfig
from collections.abc import Collection
from pathlib import Path

from twin.module import Module

HOT = (
    "l4/hbone/client.py",
    "l4/hbone/connect.py",
    "l4/hbone/driver.py",
    "l4/hbone/openings.py",
    "l4/hbone/pool.py",
    "l4/hbone/server.py",
    "l4/hbone/tunnel.py",
    "l4/http2/events.py",
    "l4/http2/flood.py",
    "l4/http2/frames.py",
    "l4/http2/heads.py",
    "l4/http2/hpack_decoder.py",
    "l4/http2/hpack_encoder.py",
    "l4/http2/huffman.py",
    "l4/http2/express/engine.py",
    "l4/http2/express/head_blocks.py",
    "l4/http2/express/messages.py",
    "l4/http2/express/output.py",
    "l4/http2/express/rules.py",
    "l4/http2/express/settings.py",
    "l4/http2/express/streams.py",
    "l4/http2/express/windows.py",
    "l4/net/capacity.py",
    "l4/net/copy.py",
    "l4/net/deadlines.py",
    "l4/net/descriptors.py",
    "l4/net/listener.py",
    "l4/net/sockets.py",
    "l4/telemetry/access_log.py",
    "l4/telemetry/line_writer.py",
    "l4/telemetry/metrics.py",
    "l4/telemetry/propagation.py",
    "l4/telemetry/source.py",
    "l4/telemetry/tally.py",
    "l4/telemetry/verdicts.py",
    "l4/ztunnel/carry.py",
    "l4/ztunnel/ends.py",
    "l4/ztunnel/inbound.py",
    "l4/ztunnel/node.py",
    "l4/ztunnel/outbound.py",
    "l4/ztunnel/proxy.py",
    "l4/ztunnel/reaches.py",
    "l4/ztunnel/traffic.py",
    "l4/ztunnel/way.py",
    "policies/attributes.py",
    "policies/authorization.py",
    "policies/circuit.py",
    "policies/decimals.py",
    "policies/filters.py",
    "policies/host_port.py",
    "policies/last_look.py",
    "policies/outcome.py",
    "policies/path_match.py",
    "policies/rate_limit.py",
    "policies/retry.py",
    "policies/route.py",
    "policies/selector.py",
    "policies/shared_buckets.py",
    "policies/timeout.py",
    "policies/balancing/endpoint.py",
    "waypoint/admission/arrival.py",
    "waypoint/admission/decide.py",
    "waypoint/admission/departure.py",
    "waypoint/admission/order.py",
    "waypoint/config/snapshot.py",
    "waypoint/data_path.py",
    "waypoint/exchange.py",
    "waypoint/filters/filter.py",
    "waypoint/filters/rate_limit.py",
    "waypoint/filters/session.py",
    "waypoint/http/client.py",
    "waypoint/http/events.py",
    "waypoint/http/framing.py",
    "waypoint/http/grpc.py",
    "waypoint/http/h1_format.py",
    "waypoint/http/h1_request.py",
    "waypoint/http/h1_response.py",
    "waypoint/http/h2.py",
    "waypoint/http/h2_client.py",
    "waypoint/http/h2_connection.py",
    "waypoint/http/h2_server.py",
    "waypoint/http/hygiene.py",
    "waypoint/http/server.py",
    "waypoint/http/trailers.py",
    "waypoint/replies.py",
    "waypoint/telemetry/access_json.py",
    "waypoint/telemetry/access_line.py",
    "waypoint/telemetry/exchange_log.py",
    "waypoint/telemetry/exchanges.py",
    "waypoint/telemetry/messages.py",
    "waypoint/telemetry/otlp.py",
    "waypoint/telemetry/record.py",
    "waypoint/telemetry/span_tags.py",
    "waypoint/telemetry/spans.py",
    "waypoint/telemetry/trace_context.py",
    "waypoint/telemetry/trace_headers.py",
    "waypoint/upstream/attempts.py",
    "waypoint/upstream/balancer.py",
    "waypoint/upstream/cluster.py",
    "waypoint/upstream/connections.py",
    "waypoint/upstream/endpoint.py",
    "waypoint/upstream/watch.py",
)

_DIRECTIVES = {"language_level": 3, "annotation_typing": False, "nonecheck": True}
"""`nonecheck`: without it, a struct's field of None is not an AttributeError but whatever lies in memory."""

_FLAGS = ["-O2", "-g0", "-Werror=incompatible-pointer-types"]
"""`-O2`: `-O3` makes larger code that executes no fewer instructions. Cython creates an incompatible pointer where a
method of another module is used as a value: such code cannot be hot."""

_SHARED = "policies/cython_utilities.c"
"""The source of what Cython's code needs at run time, which would otherwise be in each of the extensions."""


def can_compile() -> bool:
    """Whether there is a C compiler, and Python's headers for it."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


def compile_into(folder: Path, root: Path, paths: Collection[str] = HOT) -> list[Path]:
    """Compile copies of the hot modules. Returns the extensions, in `folder/built` with the layout of `root`, and the
    one that they share."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    modules = read(root, paths)
    extensions = []
    for module in modules.values():
        copy = folder / "source" / module.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(module.source)
        copy.with_suffix(".pxd").write_text(module.declarations(modules))
        extensions.append(Extension(module.name, [str(copy)], extra_compile_args=_FLAGS))
    shared = _SHARED.removesuffix(".c").replace("/", ".")
    extensions.append(Extension(shared, [str(folder / "source" / _SHARED)], extra_compile_args=_FLAGS))
    for package in {parent for path in (*paths, _SHARED) for parent in Path(path).parents} - {Path()}:
        (folder / "source" / package).mkdir(parents=True, exist_ok=True)
        (folder / "source" / package / "__init__.py").touch()
    built = cythonize(
        extensions,
        include_path=[str(folder / "source")],
        compiler_directives=_DIRECTIVES,
        nthreads=os.cpu_count() or 1,
        quiet=True,
        shared_utility_qualified_name=shared,
        shared_utility_features_disabled=["MemoryView"],
    )
    command = Distribution({"ext_modules": built}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "built"), str(folder / "temporary")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
    return sorted((folder / "built").rglob("*.so"))


def read(root: Path, paths: Collection[str] = HOT) -> dict[str, "Module"]:
    """Return the modules by name. Raises Refused."""
    modules = {it.name: it for it in (Module(path, (root / path).read_text()) for path in paths)}
    while any(module.adopt(modules) for module in modules.values()):
        pass
    for module in modules.values():
        module.check_derived(modules)
    return modules
