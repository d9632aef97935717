import io
import json
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
from click.testing import CliRunner, Result

from l4.config.settings import Settings
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, route
from waypoint.ask.load import load
from waypoint.ask.replay import MAX_GROUPS, MAX_UNREADABLE, Replay, replay
from waypoint.cli import cli
from waypoint.telemetry.recorder import MAX_LINE_BYTES, RecordedHead, Recorder, RecorderSettings
from waypoint.telemetry.redaction import MARK

GOLDEN = Path(__file__).parents[2] / "golden"
MESH, ROUTES = GOLDEN / "mesh.yaml", GOLDEN / "explain" / "routes.yaml"
REVIEWS = "inbound-vip|9080|http|reviews.default.svc.cluster.local"
REVIEWS_V2 = "inbound-vip|9080|http|reviews-v2.default.svc.cluster.local"
VERSIONS = {"route": "default.reviews.1", "cluster": REVIEWS}
JASON = {"route": "jason", "cluster": REVIEWS_V2}


def recorded(
    target: str = "/v2", *headers: tuple[str, str], account: str = "default", **decided: object
) -> RecordedHead:
    return RecordedHead(
        time=1.0,
        destination="10.96.0.1:9080",
        service="reviews.default.svc.cluster.local",
        peer=f"spiffe://cluster.local/ns/{account}/sa/client",
        method="GET",
        authority="reviews:9080",
        target=target,
        headers=(*headers, ("x-request-id", "1"), ("x-forwarded-proto", "http")),
        version="abc",
        **decided,  # type: ignore[arg-type]
    )


def lines(*heads: RecordedHead) -> BinaryIO:
    return file(b"".join(msgspec.json.encode(head) + b"\n" for head in heads))


def file(content: bytes) -> BinaryIO:
    it = io.BytesIO(content)
    it.name = "heads"
    return it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mesh.yaml").write_text(MESH.read_text())
    (tmp_path / "routes.yaml").write_text(ROUTES.read_text())
    return tmp_path


def edited(folder: Path, old: str, new: str, file: str = "routes.yaml") -> Path:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    return folder


def replayed(folder: Path, *heads: RecordedHead, against: list[Path] | None = None) -> Replay:
    candidate = load([folder], None, Settings())
    return replay([lines(*heads)], candidate, load(against, None, Settings()) if against else None)


def changes(found: Replay) -> dict[str, int]:
    return {f"{group.before} ⇒ {group.after}": group.count for group in found.groups.values()}


# -- with what was recorded ----------------------------------------------------------------------------------------


def test_under_the_same_configuration_nothing_changes(folder: Path) -> None:
    heads = (
        recorded(**VERSIONS),
        recorded("/v2", ("end-user", "jason"), **JASON),
        recorded(route="default.reviews.1", status=500),
        recorded("/away", route="default.reviews.2", status=301),
        recorded("/nowhere", status=404),
        recorded(account="shop", route="shop.ours.0", cluster="outbound|8080||ratings.shop.svc.cluster.local"),
    )

    found = replayed(folder, *heads)

    assert (found.heads, found.same, found.changed) == (6, 6, 0)


def test_changes_are_grouped_with_an_example_of_each(folder: Path) -> None:
    edited(folder, "value: jason", "value: eve")
    heads = [recorded("/v2", ("end-user", "jason"), **JASON)] * 3 + [recorded("/v2", ("end-user", "eve"), **VERSIONS)]

    found = replayed(folder, *heads)

    rules = "HTTPRoute default/reviews"
    assert changes(found) == {
        f"jason → reviews-v2.default:9080 ⇒ {rules} rules[1] → 90 % reviews.default:9080, 10 % 500": 3,
        f"default.reviews.1 → reviews.default:9080 ⇒ {rules} rules[0] (jason) → reviews-v2.default:9080": 1,
    }
    first, second = found.groups.values()
    assert (first.place, second.place) == ("heads:1", "heads:4")
    assert first.example == "GET reviews:9080/v2 from default/client to 10.96.0.1:9080"


def test_an_end_that_can_no_longer_be_met_is_a_change_under_the_same_route(folder: Path) -> None:
    edited(folder, "{name: reviews, port: 9080, weight: 9}", "{name: reviews, port: 9080, weight: 0}")

    found = replayed(folder, recorded(**VERSIONS))

    assert changes(found) == {
        "HTTPRoute default/reviews rules[1] → reviews.default:9080 ⇒ HTTPRoute default/reviews rules[1] → 500": 1
    }


def test_a_service_without_address_is_found_by_its_name(folder: Path) -> None:
    edited(folder, "clusterIP: 10.96.0.1", "clusterIP: None", "mesh.yaml")

    assert replayed(folder, recorded(**VERSIONS)).same == 1


def test_a_service_that_loses_its_waypoint_is_a_change(folder: Path) -> None:
    edited(folder, "labels: {istio.io/use-waypoint: waypoint}", "labels: {}", "mesh.yaml")

    assert changes(replayed(folder, recorded(**VERSIONS))) == {
        "default.reviews.1 → reviews.default:9080 ⇒ no waypoint": 1
    }


# -- with what another configuration would do ----------------------------------------------------------------------


def test_against_another_configuration_every_change_shows(folder: Path) -> None:
    edited(folder, "1500ms", "3s")

    found = replayed(folder, recorded(), recorded("/away"), against=[MESH, ROUTES])

    (group,) = found.groups.values()
    assert (found.changed, found.same) == (1, 1)
    assert set(group.before.does) ^ set(group.after.does) == {
        "timeout 1.5 s for the whole exchange",
        "timeout 3 s for the whole exchange",
    }


def test_a_rule_that_only_moved_is_told_apart_from_a_change(folder: Path) -> None:
    edited(folder, "  rules:\n", "  rules:\n  - {matches: [{path: {value: /new}}], backendRefs: []}\n")

    found = replayed(folder, recorded(), recorded("/away"), recorded("/nowhere"), against=[MESH, ROUTES])

    assert (found.changed, found.renamed, found.same) == (0, 2, 1)


# -- what can't be judged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "is_judged"), [("/v2", False), ("/away", True)])
def test_where_a_rule_asks_for_what_was_left_out_nothing_is_said(folder: Path, target: str, is_judged: bool) -> None:
    edited(folder, "name: end-user", "name: Cookie")
    head = recorded(target, ("cookie", MARK.decode()), route="default.reviews.2", status=301)

    found = replayed(folder, head)

    assert found.undecided == ({} if is_judged else {"cookie": 1})
    assert (found.heads, found.same) == (1, int(is_judged))


def test_a_redacted_query_parameter_counts_likewise(folder: Path) -> None:
    edited(folder, "headers: [{name: end-user, value: jason}]", "queryParams: [{name: token, value: x}]")

    assert replayed(folder, recorded(f"/v2?token={MARK.decode()}")).undecided == {"token": 1}


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"{}",
        b"\xff",
        b"",
        msgspec.json.encode(recorded()).replace(b"spiffe://", b""),
        msgspec.json.encode(recorded()).replace(b"/v2", "/☃".encode()),
        b'{"time": 1, "target": "' + b"x" * (3 * MAX_LINE_BYTES),
    ],
)
def test_a_line_that_cannot_be_read_is_told_by_its_number_and_the_others_count(folder: Path, line: bytes) -> None:
    good = msgspec.json.encode(recorded(**VERSIONS))

    found = replay([file(b"\n".join((good, line, good)))], load([folder], None, Settings()), None)

    assert (found.same, found.unreadable) == (2, 1)
    assert found.unreadable_lines[0].startswith("heads:2: ")


def test_what_is_kept_is_bounded(folder: Path) -> None:
    heads = [recorded(route=f"route-{number}", status=200) for number in range(MAX_GROUPS + 5)]

    found = replayed(folder, *heads)
    bad = replay([file(b"?\n" * 50)], load([folder], None, Settings()), None)

    assert (len(found.groups), found.left_out, found.changed) == (MAX_GROUPS, 5, MAX_GROUPS + 5)
    assert (len(bad.unreadable_lines), bad.unreadable) == (MAX_UNREADABLE, 50)


# -- the command ---------------------------------------------------------------------------------------------------


def waypoint(*args: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin)


def test_the_command_tells_what_changes_and_its_exit_status_is_for_machines(folder: Path) -> None:
    edited(folder, "1500ms", "3s")
    recording = folder / "heads"
    recording.write_bytes(lines(recorded(), recorded("/away"), recorded()).read() + b"{}\n")
    asked = ("replay", "--recorded", recording, "--resources", folder, "--against", MESH, "--against", ROUTES)

    told, checked = waypoint(*asked), waypoint(*asked, "--fail-on-change", "-o", "json")

    assert (told.exit_code, checked.exit_code) == (0, 1)
    assert told.stdout == (
        "3 requests replayed: 2 would change, 1 unchanged\n"
        "1 line cannot be parsed:\n"
        f"  {recording}:4: Object missing required field `time`\n"
        "\n"
        "2 requests, such as GET reviews:9080/v2 from default/client to 10.96.0.1:9080\n"
        "  - HTTPRoute default/reviews rules[1] → 90 % reviews.default:9080, 10 % 500\n"
        "  + HTTPRoute default/reviews rules[1] → 90 % reviews.default:9080, 10 % 500\n"
        "  -   timeout 1.5 s for the whole exchange\n"
        "  +   timeout 3 s for the whole exchange\n"
        f"  {recording}:1\n"
    )
    values = json.loads(checked.stdout)
    assert (values["heads"], values["changed"], values["unreadable"]) == (3, 2, 1)
    assert values["groups"][0]["count"] == 2


def test_without_a_change_the_exit_status_is_0_and_without_a_line_it_is_1() -> None:
    asked = ("replay", "--recorded", "-", "--resources", MESH, "--resources", ROUTES, "--fail-on-change")

    same = waypoint(*asked, stdin=lines(recorded(**VERSIONS)).read())
    nothing = waypoint(*asked, stdin=b"")

    assert (same.exit_code, nothing.exit_code) == (0, 1)
    assert same.stdout.startswith("1 request replayed: nothing would change, 1 unchanged\n")
    assert "the recording has no request" in nothing.stderr


# -- from a mesh ---------------------------------------------------------------------------------------------------


def test_what_a_mesh_recorded_stays_as_it_is_under_its_own_configuration(tmp_path: Path) -> None:
    rules = (
        "{name: jason, matches: [{headers: [{name: end-user, value: jason}]}], backendRefs: [{name: app, port: 9080}], "
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}]}, "
        "{name: split, matches: [{path: {value: /split}}], "
        "backendRefs: [{name: app, port: 9080, weight: 1}, {name: nowhere, port: 80, weight: 1}]}"
    )

    async def scenario() -> Path:
        at = Setting()
        more = route(rules)
        (tmp_path / "mesh.yaml").write_text(at.manifests(more))
        async with origin(at.pod, answering()), at.mesh(tmp_path, more) as it:
            it.path.recorder = recorder = Recorder(str(tmp_path / "heads"), RecorderSettings())
            for path in ("/", "/split", "/split?a", "/split/b"):
                for user in ("jason", "eve"):
                    await it.get(at.authority, path, f"End-User: {user}\r\n")
            await settled(lambda: it.path.exchanges == 0)
            recorder.close()
        return tmp_path / "heads"

    recording = run(scenario())
    with recording.open("rb") as heads:
        found = replay([heads], load([tmp_path / "mesh.yaml"], None, Settings()), None)

    assert (found.heads, found.same) == (8, 8)
