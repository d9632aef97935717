"""Send requests as a pod of the laptop mesh at a constant rate, and sum up the answers.

The rate does not depend on how fast answers come: a request that should have been sent at a certain time, and had to
wait for a free connection, has waited since that time. Otherwise a slow service would look faster than it is
(coordinated omission).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from waypoint.mesh.call import Answer, Caller, Request
from waypoint.mesh.running import RunningPod
from waypoint.telemetry.rates import Durations

_REPORT_SECONDS = 1.0


@dataclass(slots=True)
class Summary:
    statuses: Counter[str] = field(default_factory=Counter)
    durations: Durations = field(default_factory=Durations)
    seconds: float = 0.0
    late: int = 0
    """Requests that were not sent at all, because too many were waiting."""

    def add(self, answer: Answer, milliseconds: float) -> None:
        self.statuses[str(answer.status) if answer.status else f"no answer: {answer.reason}"] += 1
        self.durations.add(milliseconds)

    @property
    def has_failed(self) -> bool:
        return bool(self.late) or any(not it.isdecimal() or int(it) >= 500 for it in self.statuses)

    def values(self) -> dict[str, Any]:
        requests = self.statuses.total()
        return {
            "requests": requests,
            "seconds": round(self.seconds, 3),
            "per_second": round(requests / self.seconds, 1) if self.seconds else 0.0,
            "statuses": dict(sorted(self.statuses.items())),
            **{f"p{it:g}_ms": self.durations.percentile(it) for it in (50, 90, 99, 99.9)},
            "max_ms": round(self.durations.longest, 3),
            "not_sent": self.late,
        }


async def load(
    pod: RunningPod,
    request: Request,
    rate: float,
    seconds: float,
    connections: int,
    report: Callable[[float, Summary], None] = lambda seconds, latest: None,
) -> Summary:
    """Send `rate` requests per second for `seconds` over at most `connections`. `report` is called each second with
    the answers since the last time. Raises CannotCall."""
    summary, latest = Summary(), Summary()
    async with Caller(pod, request, connections) as caller, asyncio.TaskGroup() as tasks:
        begun = time.monotonic()
        waiting: set[asyncio.Task[None]] = set()

        async def send(due: float) -> None:
            answer = await caller.ask()
            milliseconds = (time.monotonic() - due) * 1000
            summary.add(answer, milliseconds)
            latest.add(answer, milliseconds)

        reported = begun
        for number in range(max(1, ceil(rate * seconds))):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(waiting) >= connections * 8:
                summary.late += 1
            else:
                task = tasks.create_task(send(due))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            if (now := time.monotonic()) - reported >= _REPORT_SECONDS:
                latest.seconds = now - reported
                report(now - begun, latest)
                latest, reported = Summary(), now
        if waiting:
            await asyncio.wait(waiting)
        summary.seconds = time.monotonic() - begun
    return summary


def as_text(summary: Summary) -> str:
    found = summary.values()
    lines = [f"{count:>8} × {status}" for status, count in found["statuses"].items()]
    lines.append(
        f"{found['requests']} requests in {found['seconds']:.1f} s, {found['per_second']} per second; durations: "
        f"p50 {found['p50_ms']:.1f} ms, p90 {found['p90_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, "
        f"maximum {found['max_ms']:.1f} ms"
    )
    if summary.late:
        lines.append(
            f"{summary.late} requests were not sent: too many were waiting for answers; raise -c, or lower --rate"
        )
    return "\n".join(lines)
