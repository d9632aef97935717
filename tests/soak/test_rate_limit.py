"""A million clients that a limit tells apart stay within bounded memory."""

import os
from pathlib import Path

import pytest

from policies.attributes import Peer, RequestHead
from policies.rate_limit import MAX_BUCKETS, Buckets, Limit, RateLimits, RateRule
from policies.selector import HeaderCondition

CLIENTS = 1_000_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_million_clients_have_buckets_of_their_own_within_32_mib() -> None:
    rule = RateRule("each", "each", Limit(5, 5.0, 5 / 60), (HeaderCondition(b"x-user"),), ("header x-user",))
    buckets, limits, peer = Buckets(), RateLimits("policy", (rule,)), Peer(None, "10.0.0.1", 1)

    def left(number: int) -> int:
        head = RequestHead(b"GET", b"app", b"/", b"", [(b"x-user", b"%d" % number)])
        quota = buckets.take(limits, head, peer, 1000.0)
        assert quota is not None
        return quota.remaining

    before = resident()
    for number in range(CLIENTS):
        left(number)
    grown = resident() - before
    known = sum(left(number) == 3 for number in range(CLIENTS))

    assert grown < 16 * MAX_BUCKETS + (4 << 20)
    assert known > 0.98 * CLIENTS
