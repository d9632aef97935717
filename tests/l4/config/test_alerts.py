"""Polls are so rare in these tests that only inotify can report a change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.config.alerts import ANYTHING, Alerts
from l4.config.notices import Notices
from tests.kit.aio import run

_LONG = 10_000.0


@asynccontextmanager
async def alerts_in(folder: Path) -> AsyncIterator[Alerts]:
    """Of somebody who has looked everywhere in the folder."""
    notices = Notices.open()
    if notices is None:
        pytest.skip("this system has no inotify")
    alerts = Alerts(_LONG, lambda: notices)
    try:
        assert await alerts.next(is_pressing=False) == ANYTHING
        assert alerts.looked([str(folder)], [])
        assert not alerts.looked([str(folder)], [])
        yield alerts
    finally:
        alerts.close()


def test_a_change_is_told_before_it_is_time_to_look_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with alerts_in(tmp_path) as alerts:
            assert alerts.is_enough
            (tmp_path / "a").touch()

            assert (await alerts.next(is_pressing=False)).paths == {str(tmp_path / "a")}

    run(scenario())


def test_what_was_told_during_a_look_is_told_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with alerts_in(tmp_path) as alerts:
            (tmp_path / "a").touch()
            alerts.looked([str(tmp_path)], [str(tmp_path / "a")])

            assert alerts.is_enough
            assert (await alerts.next(is_pressing=False)).paths == {str(tmp_path / "a")}

    run(scenario())


def test_a_change_that_was_not_told_makes_each_poll_look_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with alerts_in(tmp_path) as alerts:
            alerts.looked([str(tmp_path)], ["elsewhere"])

            assert not alerts.is_enough
            alerts.looked([str(tmp_path)], [])
            assert not alerts.is_enough

    run(scenario())


def test_a_folder_that_cannot_be_listened_to_is_looked_at_each_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with alerts_in(tmp_path) as alerts:
            assert not alerts.looked([str(tmp_path), str(tmp_path / "none")], [])

            assert not alerts.is_enough

    run(scenario())


def test_without_inotify_each_poll_looks_everywhere() -> None:
    def none() -> Notices | None:
        return None

    async def scenario() -> None:
        alerts = Alerts(0.01, none)
        for _ in range(3):
            assert await asyncio.wait_for(alerts.next(is_pressing=False), 30) == ANYTHING
            assert not alerts.looked([], [])
            assert not alerts.is_enough
        alerts.close()

    run(scenario())
