"""istiod as the authority: away while certificates have to be renewed, answering wrongly, and with a new root.

Certificates live so shortly that renewals fall into what happens. A renewal is due at 40 to 50 % of a life.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.cluster.gate import Passing
from tests.cluster.istio_mesh import NODES, Mesh, istio_mesh
from tests.cluster.waiting import until
from tests.kit.certificates import MeshPki

PARTITION_SECONDS = float(os.environ.get("PARTITION_SECONDS", "60"))
LIFE_SECONDS = 60
EVERYBODY = set(NODES)

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(240 + 2 * PARTITION_SECONDS)]


def test_a_partition_with_a_renewal_in_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("partition")
    with istio_mesh(folder, valid_seconds=int(1.5 * PARTITION_SECONDS + 30)) as mesh:
        mesh.change()
        began = time.time()
        ends = min(it.ends for it in mesh.middleman.signed)

        with mesh.watched(f"istiod out of reach for {PARTITION_SECONDS:g} s") as seen:
            mesh.gate.set(Passing.LOST)
            until(lambda: all("stays in force" in it.concern() for it in mesh.ztunnels), PARTITION_SECONDS)
            noticed = time.time() - began
            until(
                lambda: all("cannot be renewed" in it.concern() for it in mesh.programs),
                began + PARTITION_SECONDS - time.time(),
            )
            time.sleep(max(0.0, began + PARTITION_SECONDS - time.time()))
            assert not mesh.middleman.signed_since(began)
            mesh.gate.set(Passing.THROUGH)
            changed = mesh.change()
            until(lambda: mesh.middleman.signed_since(began) == EVERYBODY, ends - time.time())
            signed = time.time() - began - PARTITION_SECONDS

        print(
            f"    noticed after {noticed:.0f} s; afterwards: changes after {changed:.1f} s, certificates {signed:.1f} s"
        )
        assert seen.failed == []


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with istio_mesh(tmp_path_factory.mktemp("short"), valid_seconds=LIFE_SECONDS) as it:
        yield it


def test_an_authority_that_answers_wrongly(mesh: Mesh) -> None:
    forged: Counter[str] = Counter()
    genuine: list[str] = []

    def forge(account: str, chain: list[str]) -> list[str]:
        genuine[:] = genuine or chain
        wrong = [[], ["nonsense", *chain[1:]], chain[:1], genuine, [*chain[:-1], "nonsense"]]
        forged[account] += 1
        return wrong[forged[account] - 1] if forged[account] <= len(wrong) else chain

    with mesh.watched("istiod's authority answers each account wrongly five times") as seen:
        began = time.time()
        mesh.middleman.forge = forge
        until(lambda: mesh.middleman.signed_since(began) == EVERYBODY)
        mesh.middleman.forge = lambda account, chain: chain

    assert all(forged[it] > 4 for it in EVERYBODY)
    assert seen.failed == []


def test_certificates_serve_until_their_end_and_come_back_by_themselves(mesh: Mesh) -> None:
    with mesh.watched(f"istiod out of reach for longer than certificates live ({LIFE_SECONDS} s)") as seen:
        mesh.gate.set(Passing.LOST)
        ends = {it: max(one.ends for one in mesh.middleman.signed if one.account == it) for it in EVERYBODY}
        time.sleep(max(ends.values()) + 10 - time.time())
        concerns = [it.concern() for it in mesh.programs]
        mesh.gate.set(Passing.THROUGH)
        back = time.time()
        until(lambda: mesh.middleman.signed_since(back) == EVERYBODY, 200)

    first, last = min(it.began for it in seen.failed), max(it.began for it in seen.failed)
    print(
        f"    the first request fails {first - min(ends.values()):.1f} s after the first certificate has ended, "
        f"the last one {last - back:.1f} s after istiod is back"
    )
    assert all("expired" in it for it in concerns)
    assert first > min(ends.values()) - 2
    mesh.is_answered()
    with mesh.watched("afterwards") as seen:
        time.sleep(5)
    assert seen.failed == []


def test_a_new_root_in_three_steps(mesh: Mesh) -> None:
    old, new = mesh.pki, MeshPki(mesh.folder / "new")
    steps = {
        "both roots, the old one signs": (old, old, new),
        "both roots, the new one signs": (new, old, new),
        "the new root alone": (new, new),
    }
    with mesh.watched("istiod upgraded to a new root in three restarts") as seen:
        for step, signers in steps.items():
            mesh.istiod.end()
            mesh.istiod.sign_by(*signers)
            mesh.replace_middleman(signers[0])
            mesh.istiod.start()
            began = time.time()
            until(lambda: mesh.middleman.signed_since(began) == EVERYBODY)  # noqa: B023
            print(f"    {step}: all have new certificates after {time.time() - began:.0f} s")
        changed = mesh.change()

    print(f"    a change is known after {changed:.1f} s")
    assert seen.failed == []
