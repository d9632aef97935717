"""Select one of the two engines that implement an HTTP/2 connection.

`h2`, the library, is the reference (`_h2_engine`). The built-in `express` engine has a fast path for DATA. One contract
test suite and differential fuzzing keep them equivalent.
"""

from enum import StrEnum

from l4.http2.connection import Connection, Limits


class Engine(StrEnum):
    EXPRESS = "express"
    H2 = "h2"


def connect(engine: Engine, *, is_client: bool, limits: Limits) -> Connection:
    """Create a connection of the chosen engine. The h2 library is imported only if it is chosen."""
    if engine is Engine.H2:
        from l4.http2._h2_engine import H2Engine

        return H2Engine(is_client=is_client, limits=limits)
    from l4.http2.express.engine import ExpressEngine

    return ExpressEngine(is_client=is_client, limits=limits)
