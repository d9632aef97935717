"""What runs in the pods of `tests.cluster.load`: `serve` is the application, `ask` its clients.

`ask` waits until the file GO exists. Then it writes one line of JSON a second, with the requests that ended in it.
"""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

from tests.kit.load import Log, load
from tests.kit.timed import GRPC_PORT, HTTP_PORT, timed_application

GO = Path(os.environ.get("GO", "/tmp/go"))
_POLL_SECONDS = 0.2


async def serve() -> None:
    async with timed_application("0.0.0.0"):
        await asyncio.Event().wait()


async def ask(service: str, rate: float) -> None:
    while not GO.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it, and it is looked for five times a second
        await asyncio.sleep(_POLL_SECONDS)
    kept, has_http2 = float(os.environ.get("KEPT_SECONDS", "inf")), "WITHOUT_HTTP2" not in os.environ
    http, rpc = (service, HTTP_PORT), (service, GRPC_PORT)
    async with load(http, rpc, rate, has_http2=has_http2, kept_seconds=kept) as log:
        while True:
            await asyncio.sleep(1)
            print(json.dumps(_taken(log)), flush=True)


def _taken(log: Log) -> dict[str, object]:
    """Takes what ended out of the log. Times are of the wall clock; `oldest` is when the oldest active one began."""
    epoch = time.time() - asyncio.get_running_loop().time()
    ended = [it for it in log.requests if it.ended < float("inf")]
    log.requests[:] = [it for it in log.requests if it.ended == float("inf")]
    milliseconds = defaultdict(list)
    for it in ended:
        milliseconds[it.kind].append(round((it.ended - it.began) * 1000))
    return {
        "at": time.time(),
        "oldest": epoch + log.requests[0].began if log.requests else time.time(),
        "milliseconds": milliseconds,
        "failed": [(it.kind, epoch + it.began, epoch + it.ended, it.failure) for it in ended if it.failure],
    }


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else ask(sys.argv[2], float(os.environ["RATE"])))
