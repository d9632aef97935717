import asyncio
from pathlib import Path

import pytest

from l4.hbone.errors import ConnectFailed
from l4.ztunnel.carry import connect_plain
from tests.kit.aio import run
from tests.kit.node import world


def test_a_connection_that_fails_names_the_place_that_it_was_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            with pytest.raises(ConnectFailed, match=r"^connection failed: \[::1\]:1: "):
                await connect_plain(("::1", 1), asyncio.Protocol(), it.node)

    run(scenario())
