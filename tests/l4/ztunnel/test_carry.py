import asyncio

import pytest

from l4.hbone.errors import ConnectFailed
from l4.hbone.settings import HboneSettings
from l4.ztunnel.carry import connect_plain
from tests.kit.aio import run


def test_a_connection_that_fails_names_the_place_that_it_was_for() -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectFailed, match=r"^connection failed: \[::1\]:1: "):
            await connect_plain(("::1", 1), asyncio.Protocol(), HboneSettings())

    run(scenario())
