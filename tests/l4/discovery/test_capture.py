"""Pod annotations for the ztunnel's capture, including the defaults without annotations."""

import pytest

from l4.discovery.capture import NO_CAPTURE, Capture, Entrance, Redirect, View, capture_of
from l4.discovery.label_names import INBOUND_CAPTURE, OUTBOUND_CAPTURE
from tests.kit.discovery import registry_in

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations:
    ambient.istio.io/redirection: enabled
    ambient.istio.io/xfcc-include-client-identity: "true"
    pywaypoint.dev/outbound-capture: 127.129.0.0/16, 127.0.0.1:8080=127.96.0.4:9080
    pywaypoint.dev/inbound-capture: "[::1]:8081=9080"
status: {podIP: 10.0.0.1}
"""


def test_a_pod_without_annotations_captures_nothing() -> None:
    assert capture_of({"note": "kept"}, "default/a") is NO_CAPTURE


def test_the_annotations_of_a_pod_become_fields_of_its_workload() -> None:
    workload = registry_in(POD).workload_at("10.0.0.1")

    assert workload is not None
    assert (workload.is_redirected, workload.tells_client) == (True, True)
    assert workload.capture == Capture(
        outbound=(View("127.129.0.0/16"), Redirect(("127.0.0.1", 8080), ("127.96.0.4", 9080))),
        inbound=(Entrance(("::1", 8081), 9080),),
    )


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        (OUTBOUND_CAPTURE, "everything"),
        (OUTBOUND_CAPTURE, "127.129.0.1/16"),
        (OUTBOUND_CAPTURE, "::1:80=127.0.0.1:80"),
        (OUTBOUND_CAPTURE, "[127.0.0.1]:80=127.0.0.1:80"),
        (OUTBOUND_CAPTURE, "127.0.0.1:80="),
        (INBOUND_CAPTURE, "127.0.0.1:8081"),
        (INBOUND_CAPTURE, "127.0.0.1:8081=0"),
        (INBOUND_CAPTURE, "localhost:8081=9080"),
    ],
)
def test_an_entry_that_is_not_understood_is_named_and_captures_nothing(name: str, entry: str) -> None:
    good = "127.0.0.1:1=2" if name == INBOUND_CAPTURE else "127.130.0.0/16"

    capture = capture_of({name: f"{good},{entry}"}, "default/a")

    assert (capture.outbound, capture.inbound) == ((), ())
    assert capture.refusal.startswith(f"{name} of pod default/a: {entry!r}: ")
