"""The `tidings` command against a real server: what it prints, how it fails, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

import tidings
from tests.client.service import BUILT, ITEMS, SmallServer, bad_request, push, refuse, subscribed, violation
from tidings import __main__ as command
from tidings import show
from tidings.v1 import push_service_pb2, recommendation_service_pb2

COMMAND = [sys.executable, "-m", "tidings"]
ENVIRONMENT = {"PYTHONPATH": str(Path(tidings.__file__).parents[1]), "PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def _point_at_server(server: SmallServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_SERVER", server.address)


def run(server: SmallServer, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a program of its own."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address} | environment,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_recommend_prints_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Rank, item, title, score, sources and reasons stand in columns, wide characters counted as two."""
    assert command.main(["recommend", "stranger", "-k", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "#  item    title                 score  sources     reasons",
        "1  85123A  White hanging heart  1.0000  ann 0.5000  similar_to_bought 22423, trending",
        "2  71053   白色金属灯笼         0.9990  ann 0.5000  similar_to_bought 22423, trending",
        "3  plain                        0.9980  ann 0.5000  similar_to_bought 22423, trending",
        "",
        "release second, 2 h old, index 30 s old, serving config for-you",
        "degraded: unknown_user in user: The release does not know the user.",
    ]


def test_recommend_passes_every_option_on(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """All options reach the server; those that take items take many, and may be repeated."""
    arguments = [
        "--serving-config",
        "cart",
        "--context",
        "a",
        "b",
        "--exclude",
        "c",
        "--exclude",
        "d",
        "--query",
        "red lantern",
        "--category",
        "home",
        "--like",
        "e",
        "f",
        "--unlike",
        "g",
        "--where",
        "price<20",
        "--where",
        "brand=x,y",
        "--timeout",
        "9",
    ]
    assert command.main(["recommend", "u1", *arguments]) == 0
    request = server.calls[0].request
    assert [one.attribute for one in request.filter.must] == ["price", "brand"]
    assert (request.query, request.category) == ("red lantern", "home")
    assert (request.user_id, request.serving_config, request.HasField("k")) == ("u1", "cart", False)
    assert (list(request.context_item_ids), list(request.exclude_item_ids)) == (["a", "b"], ["c", "d"])
    examples = request.examples
    assert (list(examples.liked_item_ids), list(examples.disliked_item_ids)) == (["e", "f"], ["g"])
    assert 5 < server.calls[0].seconds_left < 9.1
    assert "serving config cart" in capsys.readouterr().out


def test_json_is_the_whole_answer_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints every field under its own name, unset ones as null."""
    assert command.main(["recommend", "u1", "-k", "2", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["items"][1]["item"]["title"] == "白色金属灯笼"
    assert [item["item"]["price"] for item in answer["items"]] == [2.55, None]
    assert answer["items"][0]["reasons"][0] == {"code": "similar_to_bought", "item_id": "22423", "text": ""}
    assert (answer["release_id"], answer["degraded"]) == ("second", [])


def test_releases_are_listed_with_their_problems(capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the releases, the broken ones explained below it, each on one line."""
    assert command.main(["releases", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "release  state      built (UTC)         items  users  index                                  recall        "
        "sources        ranker",
        "torn     broken",
        "second   serving    2011-12-01 08:30  123,456      7  IVF512,SQfp16, inner_product, 64 dims  0.9625 at 10  "
        "ann, trending  yes",
        "first    available  2011-12-01 08:30  123,456      7  IVF512,SQfp16, inner_product, 64 dims  0.9625 at 10  "
        "ann, trending  yes",
        "",
        "torn is broken: index.faiss: checksum differs",
    ]
    assert command.main(["releases", "--json", "list"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(release["release_id"], release["create_time"]) for release in listed] == [
        ("torn", None),
        ("second", "2011-12-01T08:30:00+00:00"),
        ("first", "2011-12-01T08:30:00+00:00"),
    ]


def test_releases_are_promoted_and_rolled_back(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Both say what serves now and what served before; `--from` is passed on."""
    assert command.main(["releases", "promote", "first"]) == 0
    assert capsys.readouterr().out == "serving first; before: second\n"
    assert command.main(["releases", "rollback", "--from", "other"]) == 1
    assert capsys.readouterr().err == "tidings: other is not serving\n"
    assert command.main(["releases", "rollback", "--from", "first"]) == 0
    assert "; before: first" in capsys.readouterr().out


def test_an_event_is_recorded_with_every_option(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What is given reaches the server, and the answer names the event."""
    options = [
        "--value",
        "9.5",
        "--event-id",
        "order-1",
        "--push-id",
        "p7",
        "--decision-token",
        "t8",
        "--time",
        "2024-05-01T12:30:00+02:00",
    ]
    assert command.main(["record", "ann", "purchase", "a", "b", *options]) == 0
    (event,) = server.calls[0].request.events
    assert (event.user_id, event.type, [item.item_id for item in event.items]) == ("ann", 5, ["a", "b"])
    assert (event.value, event.event_id, event.push_id, event.decision_token) == (9.5, "order-1", "p7", "t8")
    assert event.event_time.ToJsonString() == "2024-05-01T10:30:00Z"
    assert capsys.readouterr().out == "accepted: purchase of ann, event order-1\n"
    assert command.main(["record", "ann", "search", "--query", "red lantern", "--event-id", "order-1"]) == 0
    assert server.calls[1].request.events[0].query == "red lantern"
    assert capsys.readouterr().out.startswith("duplicate: search of ann, event order-1: this id was recorded before")
    assert command.main(["record", "ann", "view", "--category", "home", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "verdicts": [{"status": "accepted", "faults": []}],
        "consistency_token": "token-1",
    }


def test_a_rejected_event_exits_with_1_and_its_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """The server's words stand on stderr, one line for each."""
    assert command.main(["record", "", "view", "a"]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (
        "",
        "tidings: the event is rejected: user_id has 0 bytes, must have 1 to 256\n",
    )


def test_an_event_that_cannot_be_sent_is_rejected_like_any_other(
    server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """What this client finds wrong is said as what the server does, and no call is made."""
    assert command.main(["record", "\udc80", "view", "a", "--json"]) == 1
    printed = capsys.readouterr()
    (verdict,) = json.loads(printed.out)["verdicts"]
    assert (verdict["status"], [fault["field"] for fault in verdict["faults"]]) == ("rejected", ["user_id"])
    assert printed.err.startswith("tidings: the event is rejected: user_id '\\udc80' cannot be sent: ")
    assert server.calls == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "foo"], "a search takes no items: use --query 'foo'"),
        (["search", "men's", "watch"], "a search takes no items: use --query 'men'\\''s watch'"),
        (["search"], "a search needs --query TEXT: what was searched for"),
        (["view"], "a view needs an ITEM, or --category NAME"),
        (["see_less"], "a see_less needs an ITEM, or --category NAME"),
    ],
)
def test_an_event_that_lacks_what_it_is_about_is_told_the_option(
    server: SmallServer, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says what to type instead, and makes no call."""
    with pytest.raises(SystemExit) as left:
        command.main(["record", "ann", *arguments])
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {said}\n")
    assert server.calls == []


LINES = [
    b'{"user_id": "ann", "type": "view", "items": ["a"], "event_id": "1"}',
    b"",
    b'{"user_id": "ann", "type": "purchase", "items": [{"item_id": "a", "quantity": 2, "price": 1.5}], "value": 3}',
    b'{"user_id": "", "type": "view", "items": ["a"]}',
    b'{"user_id": "ann", "type": "view"',
    b'{"user_id": "ann", "type": "look", "items": ["a"]}',
    b'{"user_id": "ann", "type": "view", "item": "a"}',
    b'{"user_id": "ann", "type": "view", "items": [{"id": "a"}]}',
    b'{"user_id": "ann", "type": "view", "items": "abc"}',
    b'{"user_id": "ann", "type": "view", "items": ["a"], "event_time": "2024-05-01T12:30:00"}',
    b'{"user_id": "ann", "type": "view", "items": ["a"], "event_time": 1714567}',
    b'{"user_id": "\xff", "type": "view", "items": ["a"]}',
    b'{"user_id": "ann", "type": "view", "items": 5}',
    b'{"user_id": "ann", "type": "purchase", "items": ["a"], "value": 1' + b"0" * 400 + b"}",
    b'{"type": "view"}',
    b"[1]",
    b'{"user_id": "ann", "type": "search", "query": "\xe7\x81\xaf", "event_time": "2024-05-01T12:30:00Z"}',
    b'{"user_id": "ann", "type": "view", "items": ["a"], "event_id": "1"}',
]


def test_a_file_is_recorded_and_rejected_lines_are_named(
    server: SmallServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good lines are recorded whatever stands around them; each bad one is named with its number and why."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(LINES))
    assert command.main(["record", "--file", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "17 events: 3 accepted, 1 duplicate, 13 rejected\n"
    # Those that are rejected as events come after those that hold none.
    assert [line.split(":")[1] for line in printed.err.splitlines()] == [
        f" line {number}" for number in (5, 7, 8, 10, 11, 15, 16, 4, 6, 9, 12, 13, 14)
    ]
    for said in (
        "line 4: user_id has 0 bytes",
        "line 5: the line is not JSON: ",
        "line 6: type must be one of view, search, add_to_cart, remove_from_cart, purchase, return, impression",
        "line 7: the line has 'item', which is not one of user_id, type, items, category, query, value, event_time",
        "line 8: items[0] has 'id', which is not one of item_id, quantity, price",
        "line 9: items 'abc' cannot be sent: a list of items is wanted",
        "line 10: event_time '2024-05-01T12:30:00' has no time zone: add Z for UTC",
        "line 11: event_time 1714567 is not a time: write it as 2024-05-01T12:30:00Z",
        "line 12: user_id ",
        "line 13: items 5 cannot be sent: a list of items is wanted",
        "line 14: value 1000",
        "line 15: the line lacks 'user_id'",
        "line 16: the line must be an object with user_id, type, not [1]",
    ):
        assert said in printed.err
    first, second, _, last, _ = server.calls[0].request.events
    assert (first.event_id, second.items[0].quantity, second.items[0].price, second.value) == ("1", 2, 1.5, 3.0)
    assert (last.query, last.event_time.ToJsonString()) == ("灯", "2024-05-01T12:30:00Z")


def test_a_long_file_goes_in_batches(server: SmallServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """500 events go in a call, fewer when they are long, so that no call is too large for a server."""
    path = tmp_path / "events.jsonl"
    line = json.dumps({"user_id": "ann", "type": "view", "items": ["a"]})
    path.write_text(f"{line}\n" * 1001)
    assert command.main(["record", "--json", "--file", str(path)]) == 0
    assert [len(call.request.events) for call in server.calls] == [500, 500, 1]
    assert json.loads(capsys.readouterr().out) == {"accepted": 1001, "duplicate": 0, "rejected": 0}

    server.calls.clear()
    line = json.dumps({"user_id": "ann", "type": "view", "items": ["a" * 250] * 1000})
    path.write_text(f"{line}\n" * 40)
    assert command.main(["record", "--file", str(path)]) == 0
    sizes = [call.request.ByteSize() for call in server.calls]
    assert sum(len(call.request.events) for call in server.calls) == 40
    assert max(sizes) < 2 << 20


def test_events_are_read_from_the_input(server: SmallServer) -> None:
    """A dash reads the input; what is not UTF-8 spoils its own line only."""
    done = subprocess.run(
        [*COMMAND, "record", "--file", "-"],
        input=b"\n".join(LINES[:3]),
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2 events: 2 accepted, 0 duplicate, 0 rejected\n", b"")


def test_a_file_that_stops_half_way_says_where(
    server: SmallServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an error of the server one knows which lines are recorded for sure."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"user_id": "ann", "type": "view", "items": ["a"]}\n' * 600)
    server.steps.extend([lambda _: None, refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")])
    assert command.main(["record", "--file", str(path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "tidings: stopped after line 500: what follows may have to be recorded again",
        "tidings: too many calls",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said of the file, not of the answer, and nothing is sent."""
    assert command.main(["record", "--file", str(tmp_path / "none.jsonl")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"tidings: cannot read {tmp_path / 'none.jsonl'}: No such file or directory"
    )


def test_a_profile_is_shown_in_tables(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What is known, in words; a user without events is an error."""
    assert command.main(["profile", "ann"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "user ann, with a vector in the release, version 7",
        "events from 2011-12-01 08:30:00 UTC to 2011-12-01 08:30:00 UTC, spent 1,234.50",
        "",
        "reached by: a***@b.example",
        "",
        "attribute  value     source  since",
        "age        25        crm     2011-12-01 08:30:00 UTC",
        "interests  art, tea          (no time)",
        "",
        "tag  weight  source  until",
        "vip       2  crm     2011-12-01 08:30:00 UTC",
        "",
        "consent: profiling no",
        "topics: news no, sale yes",
        "quiet: daily 22:00-08:00; sun 12:00-14:00, Europe/Berlin",
        "pushes in 24 hours: 2 at most",
        "",
        "events  total  1 day  7 days  30 days",
        "view    1,234      1      20      300",
        "",
        "prices: 1.00 to 1,234.50, half below 2.00",
        "",
        "categories: home 75%",
        "",
        "less of: z, garden",
        "",
        "rated: b 4.5",
        "",
        "searched: lantern",
        "",
        "visits: 1, the last one 2011-12-01 08:30:00 UTC to 2011-12-01 08:30:00 UTC, 3 events",
        "",
        "bought (1 items)  last                     times  returned",
        "a                 2011-12-01 08:30:00 UTC      2         1",
        "",
        "newest events            type      of",
        '2011-12-01 08:30:00 UTC  search    "lantern"',
        "(no time)                purchase  a, b  9.5",
    ]
    assert command.main(["profile", "ann", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["contacts"][0]["channel"], told["preferences"]["consent"]) == ("email", {"profiling": False})
    assert command.main(["profile", "stranger"]) == 1
    assert capsys.readouterr().err == "tidings: nothing is recorded of user 'stranger'\n"


def test_an_attribute_is_not_set_and_removed_in_one_command(
    server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two is meant cannot be told: nothing is sent."""
    with pytest.raises(SystemExit, match="2"):
        command.main(["update-profile", "ann", "--set", "age=25", "city=Rome", "--remove", "age"])
    assert "age: to be set and to be removed; leave out one" in capsys.readouterr().err


def test_a_time_of_no_day_is_named_as_it_was_written(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Not as minutes, and once."""
    assert command.main(["set-preferences", "ann", "--quiet", "Europe/Berlin", "daily=25:00-08:00"]) == 1
    said = capsys.readouterr().err
    assert "start '25:00' cannot be sent" in said
    assert said.count("25:00") == 1


def test_a_file_that_is_no_subscription_says_what_one_is(
    server: SmallServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, not as an exception of Python."""
    path = tmp_path / "subscription.json"
    path.write_text("garbage")
    assert command.main(["contacts", "add", "ann", "--web-push", str(path)]) == 1
    said = capsys.readouterr().err
    assert "JSON.stringify(subscription)" in said
    assert "Error" not in said


def test_two_ids_are_merged_from_the_command_line(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """It says under which id all is known, and whether they were one before."""
    assert command.main(["merge-profiles", "visitor-1", "ann"]) == 0
    assert command.main(["merge-profiles", "known", "ann"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "merged: all is known under ann",
        "one person already: all is known under ann",
    ]


def test_a_profile_is_updated_from_the_command_line(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Values are JSON or texts, a tag may have a weight; the same id again changes nothing, and it is said."""
    line = ["update-profile", "ann", "--set", "age=25", "city=Beijing", 'interests=["fashion", "tech"]', "member=true"]
    line += ["--remove", "gender", "--tag", "vip=2.5", "likes:tea", "--until", "2030-01-01T00:00:00Z"]
    line += ["--remove-tag", "new", "--source", "crm", "--event-id", "c-1"]
    assert command.main(line) == 0
    assert command.main(line) == 0
    assert capsys.readouterr().out.splitlines() == [
        "updated",
        "nothing was changed: an update of this id was recorded before",
    ]
    request = server.calls[0].request
    assert (request.user_id, request.event_id, request.source) == ("ann", "c-1", "crm")
    values = {name: value.WhichOneof("value") for name, value in request.attributes.items()}
    assert values == {"age": "number", "city": "text", "interests": "texts", "member": "flag"}
    assert list(request.attributes["interests"].texts.values) == ["fashion", "tech"]
    assert list(request.remove_attributes) == ["gender"]
    assert [(tag.tag, tag.weight, tag.expire_time.seconds) for tag in request.tags] == [
        ("vip", 2.5, 1_893_456_000),
        ("likes:tea", 1.0, 1_893_456_000),
    ]
    assert list(request.remove_tags) == ["new"]


def test_a_push_is_sent_with_every_option(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What is given reaches the server; what was not sent says why."""
    options = ["--body", "Body", "--item", "a", "b", "--url", "https://shop/x", "--ttl", "90", "--collapse-key", "c"]
    options += ["--data", "k=v=w", "--data", "l=", "--request-id", "r-1"]
    assert command.main(["send", "ann", "Title", *options]) == 0
    request = server.calls[0].request
    assert (request.user_id, request.title, request.body, request.url) == ("ann", "Title", "Body", "https://shop/x")
    assert (list(request.item_ids), request.ttl.seconds, dict(request.data)) == (["a", "b"], 90, {"k": "v=w", "l": ""})
    assert (request.collapse_key, request.request_id) == ("c", "r-1")
    assert capsys.readouterr().out == "sent: push p7 at offset 7\n"
    assert command.main(["send", "full", "Title"]) == 0
    assert capsys.readouterr().out == ("not sent: the user had as many pushes in the last 24 hours as one may have\n")
    assert command.main(["send", "full", "Title", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "decision": "suppressed",
        "reason": "cap_day",
        "push_id": "",
        "offset": 0,
    }


def a_push(offset: int) -> push_service_pb2.SubscribeResponse:
    """A push with most of what one can have."""
    reason = recommendation_service_pb2.Reason(code=recommendation_service_pb2.REASON_CODE_SEARCHED, text="lantern")
    items = [
        recommendation_service_pb2.RecommendedItem(item=ITEMS[0], reasons=[reason]),
        recommendation_service_pb2.RecommendedItem(item=ITEMS[1]),
    ]
    message = push(
        offset,
        title=f"Title {offset}",
        body="Bo\ndy",
        items=items,
        url="https://shop/x",
        trigger="bought",
        event_id="e7",
    )
    message.push.create_time.FromDatetime(BUILT)
    return message


def test_pushes_are_printed_as_they_come_and_acknowledged(
    server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time, title, text, items with prices and reasons, address and cause; after the last one wanted it ends."""
    server.scripts.append((subscribed(), a_push(1), a_push(2), a_push(3), server.stay))
    assert command.main(["subscribe", "ann", "--device", "phone", "--count", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "2011-12-01 08:30:00 UTC  Title 1",
        "  Bo dy",
        "  1  85123A  White hanging heart  2.55 GBP  searched lantern",
        "  2  71053   白色金属灯笼",
        "  url: https://shop/x",
        "  trigger bought, event e7, push p1",
    ]
    assert (len(lines), lines[6]) == (12, "2011-12-01 08:30:00 UTC  Title 2")
    assert (server.calls[0].request.user_id, server.calls[0].request.device_id) == ("ann", "phone")
    assert server.requests("Acknowledge")[-1].offset == 2


def test_pushes_as_json_are_one_line_each(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field under its own name."""
    server.scripts.append((subscribed(), a_push(1), a_push(2), server.stay))
    assert command.main(["subscribe", "ann", "--count", "2", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["push_id"], first["create_time"], second["offset"]) == ("p1", "2011-12-01T08:30:00+00:00", 2)
    assert first["items"][0]["reasons"] == [{"code": "searched", "item_id": "", "text": "lantern"}]


def test_ctrl_c_ends_a_subscription_with_the_last_push_acknowledged(server: SmallServer) -> None:
    """What was printed does not come again; no traceback."""
    server.scripts.append((subscribed(), a_push(1), a_push(2), server.stay))
    with subprocess.Popen(
        [*COMMAND, "subscribe", "ann"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            told = server.wait_for("Acknowledge", 1)
            while told[-1].offset != 2:
                told = server.wait_for("Acknowledge", len(told) + 1)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (130, b"")
    assert stdout.count(b"Title") == 2


def test_a_subscriber_without_a_server_says_so_once(server: SmallServer) -> None:
    """It goes on trying, and tells why nothing comes."""
    with subprocess.Popen(
        [*COMMAND, "subscribe", "ann", "--server", "127.0.0.1:1"], env=ENVIRONMENT, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert line.startswith(b"tidings: no Tidings server answers at 127.0.0.1:1 ")
    assert line.endswith(b"; subscribing again\n")
    assert (process.returncode, rest) == (130, b"")


def test_a_replaced_subscriber_says_so(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The same device in two terminals is a mistake one should hear of."""
    gone = push_service_pb2.GoAway(reason=push_service_pb2.GO_AWAY_REASON_REPLACED)
    server.scripts.append((subscribed(), push_service_pb2.SubscribeResponse(go_away=gone)))
    assert command.main(["subscribe", "ann"]) == 1
    assert capsys.readouterr().err == (
        "tidings: another subscription of user 'ann' and the device without a name took the place of this one: give "
        "each device a device_id of its own\n"
    )


def test_options_may_stand_before_or_after_the_command(
    server: SmallServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--server`, `--timeout` and `--json` work in both places, and `--server` wins over the environment."""
    monkeypatch.setenv("TIDINGS_SERVER", "127.0.0.1:1")
    before = ["--server", server.address, "--timeout", "9", "--json", "recommend", "u1"]
    after = ["recommend", "u1", "--server", server.address, "--timeout", "9", "--json"]
    for arguments in (before, after):
        assert command.main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["release_id"] == "second"
    assert all(5 < call.seconds_left < 9.1 for call in server.calls)


def test_an_error_is_one_line_and_each_field_another(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused request exits with 1, says so on stderr with every field, and prints nothing else."""
    server.steps.append(bad_request(violation("k", "must be 1 to 500,\nnot 0"), violation("user_id", "is empty")))
    assert command.main(["recommend", "", "-k", "0"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "tidings: 2 fields are refused",
        "  k: must be 1 to 500, not 0",
        "  user_id: is empty",
    ]


def test_a_field_that_the_message_names_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """What the client itself refuses is one line."""
    assert command.main(["recommend", "u1", "--timeout", "0"]) == 1
    assert capsys.readouterr().err == "tidings: timeout must be above 0 and at most 86400 s, not 0.0\n"


def test_a_long_message_of_the_server_stays_on_one_line(
    server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line breaks in an error are not passed on."""
    server.steps.append(refuse(grpc.StatusCode.INTERNAL, "it broke\n  here\n"))
    assert command.main(["recommend", "u1"]) == 1
    assert capsys.readouterr().err == "tidings: it broke here\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["recommend"],
        ["recommend", "u1", "-k", "many"],
        ["releases"],
        ["releases", "promote"],
        ["sell", "u1"],
        ["record"],
        ["record", "ann"],
        ["record", "ann", "look"],
        ["record", "ann", "view", "--file", "x"],
        ["record", "ann", "view", "a", "--time", "noon"],
        ["record", "ann", "view", "a", "--time", "2024-05-01T12:30:00"],
        ["send", "ann"],
        ["send", "ann", "Title", "--data", "x"],
        ["subscribe"],
        ["subscribe", "ann", "--count", "0"],
    ],
)
def test_wrong_usage_exits_with_2_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the command line does not allow is explained with its usage, and no call is made."""
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tidings")


def test_without_a_server_it_says_how_to_start_one(server: SmallServer) -> None:
    """A server that is not there costs one readable line and exit status 1."""
    done = run(server, "recommend", "u1", "--server", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tidings: no Tidings server answers at 127.0.0.1:1 ")
    assert "`tidings-server`" in line


def test_a_reader_that_leaves_early_is_no_error(server: SmallServer) -> None:
    """`tidings … | head -1` ends quietly, however long the answer."""
    read, write = os.pipe()
    with subprocess.Popen(
        [*COMMAND, "recommend", "u1", "-k", "500"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        os.close(read)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, b"")


def test_a_full_disk_is_reported(server: SmallServer) -> None:
    """An answer that cannot be written is an error, not a success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "recommend", "u1"],
            env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (
        1,
        b"tidings: cannot write the answer: [Errno 28] No space left on device\n",
    )


def test_ctrl_c_is_quiet(server: SmallServer) -> None:
    """Interrupted while it waits, the command ends with 130 and no traceback."""
    server.steps.append(server.hang)
    with subprocess.Popen(
        [*COMMAND, "recommend", "u1", "--timeout", "30"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert server.reached.wait(30)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stdout, stderr) == (130, b"", b"")


def test_a_terminal_without_unicode_gets_all_it_can_show(server: SmallServer) -> None:
    """On an ASCII terminal the table loses letters, never the answer; JSON loses nothing."""
    table = run(server, "recommend", "u1", "-k", "2", PYTHONIOENCODING="ascii")
    assert (table.returncode, table.stderr) == (0, b"")
    assert b"??????" in table.stdout
    answer = run(server, "recommend", "u1", "-k", "2", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(answer.stdout.decode("ascii"))["items"][1]["item"]["title"] == "白色金属灯笼"


def test_a_user_id_that_is_no_text_is_refused(server: SmallServer) -> None:
    """Bytes that are not UTF-8 are named as the user id, without a traceback."""
    done = subprocess.run(
        [*COMMAND, "recommend", b"\xff"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"tidings: user_id ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.2, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_an_age_is_told_in_a_unit_one_can_grasp(seconds: float, text: str) -> None:
    """An age is a whole number of the largest unit that fits twice; a clock that is ahead makes no negative age."""
    assert show.age(seconds) == text


def test_a_text_of_the_shop_cannot_break_the_table_or_steer_the_terminal() -> None:
    """Escapes and line breaks are dropped, and a long title is shortened by columns, not letters."""
    item = tidings.Item(
        "i\x1b[31m1", "灯" * 40 + "\n", "", (), "", None, "", "", "", publish_time=None, expire_time=None, attributes={}
    )
    items = (tidings.RecommendedItem(item, 1.0, (), ()),)
    answer = tidings.Recommendation(items, (), "", 0.0, 0.0, "for-you", "", "", "")
    header, row, blank, origin = show.recommendation(answer).split("\n")
    assert row == f"1  i [31m1  {'灯' * 23}…  1.0000"
    assert (blank, origin) == ("", "no release, serving config for-you")
    assert header.startswith("#  item     title ")


def test_an_empty_answer_and_no_releases_are_said_in_words() -> None:
    """Nothing to show is a sentence, not an empty table."""
    empty = tidings.Recommendation((), (), "r1", 0.0, 0.0, "for-you", "", "", "")
    assert show.recommendation(empty).startswith("no items\n")
    assert show.releases([]) == "no releases"
