"""The properties of a request's head that every application may rely on, whoever sent it."""

import uuid

from policies.attributes import Headers
from waypoint.admission.arrival import complete, new_request_id


def completed(*headers: tuple[bytes, bytes]) -> tuple[bytes, Headers]:
    given = [*headers]
    return complete(given, dict(given), lambda: b"new"), given


def test_a_request_without_an_id_gets_one() -> None:
    assert completed() == (b"new", [(b"x-request-id", b"new"), (b"x-forwarded-proto", b"http")])


def test_what_the_client_says_stays() -> None:
    own = (b"x-request-id", b"own"), (b"x-forwarded-proto", b"https")

    assert completed(*own) == (b"own", [*own])


def test_ids_are_random_uuids() -> None:
    ids = {uuid.UUID(new_request_id().decode()) for _ in range(1000)}

    assert len(ids) == 1000
    assert {(it.version, it.variant) for it in ids} == {(4, uuid.RFC_4122)}
