import pytest

from l4.config.settings import Settings
from l4.discovery.workload import AppProtocol
from policies.opaque import OpaqueTable
from policies.route import RouteTable
from tests.kit.discovery import registry_in
from waypoint.ask.question import NEW_REQUEST_ID, InvalidQuestion, Question, as_exchanged
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.errors import BadRequest, ExchangeError
from waypoint.http.settings import HttpSettings

REGISTRY = registry_in("""\
    apiVersion: v1
    kind: Service
    metadata: {name: reviews, namespace: default}
    spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 9080}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: six, namespace: default}
    spec: {clusterIP: "fd00::6", ports: [{name: http, port: 80}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: headless, namespace: shop}
    spec: {clusterIP: None, ports: [{name: http, port: 80}, {name: more, port: 81}]}
    """)


def question(to: str = "reviews", *headers: str, target: str = "/", namespace: str = "default") -> Question:
    return Question.parse(f"{namespace}/client", to, "GET", target, headers)


@pytest.mark.parametrize(
    ("to", "namespace", "expected"),
    [
        ("reviews", "default", ("10.96.0.1", 9080)),
        ("reviews:1", "default", ("10.96.0.1", 1)),
        ("reviews.default", "shop", ("10.96.0.1", 9080)),
        ("reviews.default.svc:9080", "shop", ("10.96.0.1", 9080)),
        ("Reviews.default.svc.cluster.local.", "shop", ("10.96.0.1", 9080)),
        ("10.96.0.1", "shop", ("10.96.0.1", 9080)),
        ("::ffff:10.96.0.1", "shop", ("10.96.0.1", 9080)),
        ("[fd00:0::6]:80", "shop", ("fd00::6", 80)),
        ("fd00::6", "shop", ("fd00::6", 80)),
        ("headless:81", "shop", ("headless.shop.svc.cluster.local", 81)),
        ("reviews", "shop", ("reviews", 80)),
        ("example.com:443", "shop", ("example.com", 443)),
    ],
)
def test_a_service_is_found_by_every_name_that_its_clients_may_use(
    to: str, namespace: str, expected: tuple[str, int]
) -> None:
    assert question(to, namespace=namespace).authority(REGISTRY) == expected


@pytest.mark.parametrize(
    ("client", "to", "target", "header", "sentence"),
    [
        ("client", "a:80", "/", "a: b", "not of the form NAMESPACE/SERVICEACCOUNT"),
        ("a/b/c", "a:80", "/", "a: b", "not of the form NAMESPACE/SERVICEACCOUNT"),
        ("a/b", "", "/", "a: b", "the service is missing"),
        ("a/b", "a", "/", "no-colon", "not of the form NAME: VALUE"),
        ("a/b", "a", "/", ": value", "not of the form NAME: VALUE"),
        ("a/b", "a", "/ HTTP/1.1\r\nx: y", "a: b", "single lines"),
        ("a/b", "a", "/" + "x" * 70_000, "a: b", "always rejected"),
    ],
)
def test_what_is_no_question_is_told_in_a_sentence(
    client: str, to: str, target: str, header: str, sentence: str
) -> None:
    with pytest.raises(InvalidQuestion, match=sentence):
        Question.parse(client, to, "GET", target, (header,))


def test_a_port_out_of_range_is_told_in_a_sentence() -> None:
    with pytest.raises(InvalidQuestion, match="no port from 1 to 65535"):
        question("reviews:70000").authority(REGISTRY)


def test_the_head_is_what_the_data_path_makes_of_the_request() -> None:
    head = question("Reviews.:9080", "X-A: b ", "Keep-Alive: 5", target="/a/../b%41?c=d").head(Settings())

    assert (head.method, head.authority, head.target) == (b"GET", b"reviews:9080", b"/bA?c=d")
    assert head.headers == [(b"x-a", b"b")]


def test_a_setting_decides_how_paths_are_normalised() -> None:
    settings = Settings(HttpSettings(path_normalization="MERGE_SLASHES"))

    assert question(target="//a").head(settings).path == b"/a"


@pytest.mark.parametrize(("target", "header"), [("/%00", "a: b"), ("/a b", "a: b"), ("/", "Host: a/b"), ("x", "a: b")])
def test_what_the_data_path_refuses_is_refused(target: str, header: str) -> None:
    with pytest.raises(ExchangeError) as refusal:
        question("reviews", header, target=target).head(Settings())

    assert isinstance(refusal.value, BadRequest)


def test_the_head_is_decided_on_with_what_every_application_may_rely_on() -> None:
    head = question("reviews", "X-Forwarded-Proto: https").head(Settings())

    exchanged = as_exchanged(head, None)

    assert exchanged.headers == [(b"x-forwarded-proto", b"https"), (b"x-request-id", NEW_REQUEST_ID)]
    assert head.headers == [(b"x-forwarded-proto", b"https")]


def test_grpc_web_is_decided_on_as_plain_grpc() -> None:
    head = question("reviews", "Content-Type: application/grpc-web-text+proto").head(Settings())
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.GRPC_WEB, RouteTable([]), OpaqueTable())

    assert as_exchanged(head, destination).get(b"content-type") == b"application/grpc+proto"
    assert as_exchanged(head, None).get(b"content-type") == b"application/grpc-web-text+proto"
