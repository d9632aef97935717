"""The two engines that implement an HTTP/2 connection, and the choice between them.

`h2`, the library, is the reference (`_h2_engine`). In ours, DATA and WINDOW_UPDATE on open streams take an express lane
(`express`). One contract suite and differential fuzzing hold them together.
"""

from enum import StrEnum

from l4.http2.connection import Connection, Limits


class Engine(StrEnum):
    EXPRESS = "express"
    H2 = "h2"


def connect(engine: Engine, *, is_client: bool, limits: Limits) -> Connection:
    """Make a connection of the chosen engine. The library is imported only when it is asked for."""
    if engine is Engine.H2:
        from l4.http2._h2_engine import H2Engine

        return H2Engine(is_client=is_client, limits=limits)
    from l4.http2.express.engine import ExpressEngine

    return ExpressEngine(is_client=is_client, limits=limits)
