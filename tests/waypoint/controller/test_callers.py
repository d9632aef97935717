"""Who may have which certificate."""

import pytest

from policies.attributes import Identity
from tests.kit.aio import run
from tests.waypoint.controller.accounts import AccountsServer, accounts_server
from waypoint.controller.callers import Caller, Callers, Denied, Unsure

REVIEWS = "spiffe://cluster.local/ns/bookinfo/sa/reviews"
RATINGS = "spiffe://cluster.local/ns/bookinfo/sa/ratings"
NODE_ACCOUNTS = {"pywaypoint-system/ztunnel"}


@pytest.fixture
def server() -> AccountsServer:
    """The reviews run on node-a, the ratings on node-b, and a ztunnel on each."""
    made = AccountsServer()
    made.pod("bookinfo", "reviews-1", "reviews", "node-a")
    made.pod("bookinfo", "ratings-1", "ratings", "node-b")
    made.pod("pywaypoint-system", "ztunnel-a", "ztunnel", "node-a", uid="uid-a")
    made.pod("pywaypoint-system", "ztunnel-b", "ztunnel", "node-b", uid="uid-b")
    return made


def granted(server: AccountsServer, token: str, wanted: str) -> Identity:
    async def scenario() -> Identity:
        async with accounts_server(server) as client:
            callers = Callers(client, "cluster.local", NODE_ACCOUNTS)
            return await callers.granted(await callers.identify(token), wanted)

    return run(scenario())


def denial(server: AccountsServer, token: str, wanted: str = "") -> str:
    with pytest.raises(Denied) as raised:
        granted(server, token, wanted)
    return str(raised.value)


@pytest.mark.parametrize("wanted", ["", REVIEWS])
def test_everybody_gets_its_own_identity(server: AccountsServer, wanted: str) -> None:
    token = server.account("bookinfo", "reviews")

    assert str(granted(server, token, wanted)) == REVIEWS
    assert server.asked == ["POST /apis/authentication.k8s.io/v1/tokenreviews"]


def test_nobody_else_gets_the_identity_of_another(server: AccountsServer) -> None:
    token = server.account("bookinfo", "reviews", "reviews-1", "uid")

    assert denial(server, token, RATINGS) == f"it asks for {RATINGS}, but is not a trusted node account"


def test_a_ztunnel_gets_the_identities_of_its_node_and_no_others(server: AccountsServer) -> None:
    token_a = server.account("pywaypoint-system", "ztunnel", "ztunnel-a", "uid-a")
    token_b = server.account("pywaypoint-system", "ztunnel", "ztunnel-b", "uid-b")

    assert str(granted(server, token_a, REVIEWS)) == REVIEWS
    assert str(granted(server, token_b, RATINGS)) == RATINGS
    assert denial(server, token_a, RATINGS) == (
        f"it asks for {RATINGS}, but no pod of that account runs on its node node-a"
    )
    assert "no pod of that account runs on its node node-b" in denial(server, token_b, REVIEWS)


def test_a_ztunnel_of_another_namespace_is_nobodys(server: AccountsServer) -> None:
    server.pod("bookinfo", "ztunnel", "ztunnel", "node-a")
    token = server.account("bookinfo", "ztunnel", "ztunnel", "uid")

    assert "is not a trusted node account" in denial(server, token, REVIEWS)


@pytest.mark.parametrize(
    ("pod", "uid", "sentence"),
    [
        ("", "", "its token is not bound to a pod"),
        ("ztunnel-a", "", "its token is not bound to a pod"),
        ("ztunnel-a", "forged", "the pod ztunnel-a with the UID forged, to which its token is bound, does not run"),
        ("ztunnel-c", "uid-a", "the pod ztunnel-c with the UID uid-a, to which its token is bound, does not run"),
        ("other", "uid-o", "the pod other with the UID uid-o, to which its token is bound, does not run"),
        ("pending", "uid-p", "the pod pending with the UID uid-p, to which its token is bound, does not run"),
        ("ended", "uid-e", "the pod ended with the UID uid-e, to which its token is bound, does not run"),
    ],
)
def test_a_ztunnel_without_a_pod_of_its_own_is_on_no_node(
    server: AccountsServer, pod: str, uid: str, sentence: str
) -> None:
    server.pod("pywaypoint-system", "other", "controller", "node-a", uid="uid-o")
    server.pod("pywaypoint-system", "pending", "ztunnel", "", uid="uid-p")
    server.pod("pywaypoint-system", "ended", "ztunnel", "node-a", uid="uid-e", phase="Failed")
    token = server.account("pywaypoint-system", "ztunnel", pod, uid)

    assert denial(server, token, REVIEWS) == sentence


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_needs_no_certificate(server: AccountsServer, phase: str) -> None:
    server.pod("bookinfo", "job-1", "job", "node-a", phase=phase)
    token = server.account("pywaypoint-system", "ztunnel", "ztunnel-a", "uid-a")

    assert "no pod of that account" in denial(server, token, "spiffe://cluster.local/ns/bookinfo/sa/job")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("reviews", "the wanted identity is malformed: 'reviews' is not of the form"),
        ("spiffe://cluster.local/ns/../sa/x", "the wanted identity is malformed"),
        ("spiffe://cluster.local/ns/a%2fb/sa/x", "the wanted identity is malformed"),
        ("spiffe://other/ns/bookinfo/sa/reviews", "it asks for spiffe://other/ns/bookinfo/sa/reviews, but the trust"),
    ],
)
def test_an_identity_that_cannot_be_granted_asks_for_no_pods(
    server: AccountsServer, wanted: str, sentence: str
) -> None:
    token = server.account("pywaypoint-system", "ztunnel", "ztunnel-a", "uid-a")

    assert denial(server, token, wanted).startswith(sentence)
    assert len(server.asked) == 1


def test_a_token_counts_only_for_our_audience_and_a_service_account(server: AccountsServer) -> None:
    other = server.account("bookinfo", "reviews", audiences=("api",))
    human = server.account("bookinfo", "reviews")
    server.tokens[human]["user"]["username"] = "admin"
    half = server.account("bookinfo", "")

    assert denial(server, "forged") == "the token is not valid for the audience istio-ca: invalid bearer token"
    assert denial(server, other) == "the token is not valid for the audience istio-ca: no reason given"
    assert denial(server, human) == "'admin' is not a service account"
    assert denial(server, half) == "'system:serviceaccount:bookinfo:' is not a service account"


def test_the_caller_is_who_the_review_says(server: AccountsServer) -> None:
    token = server.account("bookinfo", "reviews", "reviews-1", "uid")

    async def scenario() -> None:
        async with accounts_server(server) as client:
            caller = await Callers(client, "cluster.local", ()).identify(token)

            assert caller == Caller("bookinfo", "reviews", ("reviews-1", "uid"))
            assert str(caller) == "bookinfo/reviews"

    run(scenario())


@pytest.mark.parametrize("refusal", [(500, "InternalError"), (403, "Forbidden"), (401, "Unauthorized")])
def test_without_the_api_servers_word_nobody_is_known(server: AccountsServer, refusal: tuple[int, str]) -> None:
    token = server.account("bookinfo", "reviews")
    server.refusal = refusal

    with pytest.raises(Unsure, match=f"it says {refusal[1]}"):
        granted(server, token, "")


def test_while_the_api_server_is_away_nobody_is_known(server: AccountsServer) -> None:
    async def scenario() -> None:
        async with accounts_server(server):
            pass
        client = server.client()
        with pytest.raises(Unsure, match="gave no usable answer"):
            await Callers(client, "cluster.local", ()).identify("token")
        await client.close()

    run(scenario())


def test_an_answer_of_another_form_makes_nobody_known(server: AccountsServer) -> None:
    token = server.account("bookinfo", "reviews")
    server.tokens[token] = {"authenticated": "yes"}

    with pytest.raises(Unsure, match="cannot be decoded"):
        granted(server, token, "")
