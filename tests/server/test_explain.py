"""Explain against a real server: an answer, a recorded answer, a push; and what is asked wrongly."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tests.support.world import make_world
from tidings import Verdict
from tidings import __main__ as command

TRIGGER = """
push_max_per_day = 1
record_share = 1.0

[trigger.bought]
event = "purchase"
serving_config = "goes-with"
template = "goes-with"
[template.goes-with]
title = "For your {% if because %}{{ because.title }}{% endif %}"
body = "{{ item.title }}"
"""


@pytest.fixture(scope="module")
def server(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a trigger, a cap of one push a day, and every answer recorded; release a serves."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "server.toml").write_text(TRIGGER)
    with start_server(built_shop.path, folder / "state", "--config", str(folder / "server.toml")) as running:
        with tidings.Client(running.address, timeout=30) as client:
            client.promote_release(built_shop.a)
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[tidings.Client]:
    """A client of its own for each test."""
    with tidings.Client(server.address, timeout=30) as client:
        yield client


ITEMS = [f"item-{row}" for row in range(0, 300, 3)]


def test_an_explanation_agrees_with_the_answer(client: tidings.Client, shop: Shop) -> None:
    """What is recommended is what Recommend gives to the same question, at the same places with the same scores."""
    question = tidings.RecommendQuery("user-4", k=12, context_item_ids=["item-9"], exclude_item_ids=["item-33"])
    (answer,) = client.batch_recommend([question])
    found = client.explain(question, ITEMS)
    got = [item.item.item_id for item in answer.items]
    verdicts = {one.item_id: one for one in found.items}
    assert list(verdicts) == ITEMS
    for item_id, one in verdicts.items():
        assert (one.verdict is Verdict.RECOMMENDED) == (item_id in got)
        if item_id in got:
            item = answer.items[got.index(item_id)]
            assert (one.place, one.score, one.reasons) == (got.index(item_id) + 1, item.score, item.reasons)
            assert {s.source: s.score for s in one.sources if s.score is not None} == {
                s.source: s.score for s in item.sources
            }
    assert verdicts["item-9"].verdict is Verdict.IN_CONTEXT
    assert verdicts["item-33"].verdict is Verdict.EXCLUDED_BY_REQUEST
    assert found.release_id == answer.release_id == shop.a
    assert (found.k, found.last_score, found.ranked) == (12, answer.items[-1].score, True)
    assert found.may_be_found is not None
    assert found.may_be_found <= 298
    missed = [one for one in found.items if one.verdict is Verdict.NOT_RETRIEVED]
    assert missed
    assert all(one.exact_rank and one.exact_rank > 12 and one.similarity is not None for one in missed)


def test_what_a_person_did_explains_what_is_gone(client: tidings.Client) -> None:
    """The purchase that was just acknowledged is the reason, and so is what somebody asked to see less of."""
    best = [item.item.item_id for item in client.recommend("user-5", k=3).items]
    token = client.record(
        [
            tidings.Event("user-5", "purchase", items=[best[0]]),
            tidings.Event("user-5", "see_less", items=[best[1]]),
        ]
    ).consistency_token
    found = client.explain(tidings.RecommendQuery("user-5", consistency_token=token), best)
    assert [one.verdict for one in found.items[:2]] == [Verdict.BOUGHT, Verdict.BLOCKED]
    assert found.items[0].detail == "the user bought it"


def test_the_asyncio_client_gets_the_same(client: tidings.Client, server: RunningServer) -> None:
    """Of a question, and of a decision."""

    async def ask(decision_id: str) -> tuple[tidings.Explanation, tidings.Explanation]:
        async with tidings.aio.Client(server.address, timeout=30) as other:
            return await other.explain(tidings.RecommendQuery("user-6", k=9), ITEMS), await other.explain_decision(
                decision_id
            )

    decision_id = client.recommend("user-6", k=9).decision_id
    now, then = asyncio.run(ask(decision_id))
    assert now.items == client.explain(tidings.RecommendQuery("user-6", k=9), ITEMS).items
    assert then == client.explain_decision(decision_id)


def test_a_recorded_answer_is_explained_as_it_was(client: tidings.Client) -> None:
    """Also after everything has changed since: places, scores, sources with ranks, features and reasons are of then."""
    answer = client.recommend("user-7", k=6, exclude_item_ids=["item-30"])
    got = [item.item.item_id for item in answer.items]
    before = client.explain(tidings.RecommendQuery("user-7", k=6, exclude_item_ids=["item-30"]), got)
    client.record([tidings.Event("user-7", "purchase", items=[got[0]])])
    found = client.explain_decision(answer.decision_id)
    assert [one.item_id for one in found.items] == got
    for one, then, item in zip(found.items, before.items, answer.items, strict=True):
        assert one.recorded
        assert (one.verdict, one.place, one.score) == (Verdict.RECOMMENDED, then.place, item.score)
        assert one.reasons == item.reasons
        proposed = [s for s in then.sources if s.status is tidings.SourceStatus.PROPOSED]
        assert [s for s in one.sources if s.status is tidings.SourceStatus.PROPOSED] == proposed
        assert one.features == then.features
    assert found.decision is not None
    assert (found.decision.state, found.decision.cause) == ("answered", "recommend:for-you")
    others = client.explain_decision(answer.decision_id, ["item-30", got[0], "item-1", "elsewhere"]).items
    assert [(one.verdict, one.recorded) for one in others[:2]] == [
        (Verdict.EXCLUDED_BY_REQUEST, True),
        (Verdict.RECOMMENDED, True),
    ]
    assert others[2].verdict in (Verdict.NOT_RETRIEVED, Verdict.OUTRANKED)
    assert (others[3].verdict, others[3].recorded) == (Verdict.UNKNOWN_ITEM, False)


def test_candidates_beyond_the_answer_were_outranked_or_held_back(client: tidings.Client) -> None:
    """The record goes on after the items that were asked for, and tells of each which of the two it was."""
    liked = [f"item-{row}" for row in range(2, 300, 6)]
    answer = client.recommend("user-8", k=7)
    now = client.explain(tidings.RecommendQuery("user-8", k=7), liked)
    then = client.explain_decision(answer.decision_id, liked)
    told = [(one.item_id, one.verdict, one.place, one.score) for one in then.items if one.place]
    assert told == [(one.item_id, one.verdict, one.place, one.score) for one in now.items if one.place]
    assert {verdict for _, verdict, _, _ in told} >= {Verdict.RECOMMENDED, Verdict.OUTRANKED, Verdict.HELD_BACK}


def test_a_push_and_one_that_the_cap_held_back_are_explained(client: tidings.Client, server: RunningServer) -> None:
    """By push_id: what was chosen and why; by decision: that it was not sent, and what for."""
    with client.subscribe("user-9") as pushes:
        client.record(tidings.Event("user-9", "purchase", items=["item-8"], event_id="first"))
        push = next(pushes)
    found = client.explain_decision(push.push_id)
    assert [one.item_id for one in found.items] == [item.item.item_id for item in push.items]
    assert {one.verdict for one in found.items} == {Verdict.RECOMMENDED}
    assert [one.reasons for one in found.items] == [item.reasons for item in push.items]
    assert found.decision is not None
    assert (found.decision.push_id, found.decision.cause) == (push.push_id, "trigger:bought")
    (context,) = client.explain_decision(push.push_id, ["item-8"]).items
    assert context.verdict is Verdict.IN_CONTEXT
    client.record(tidings.Event("user-9", "purchase", items=["item-14"], event_id="second"))
    while server.metric('tidings_decisions_total{cause="trigger:bought",outcome="CAP_DAY"}') < 1:
        pass
    capped = client.explain_decision("trigger/bought/second", ["item-20"])
    (one,) = capped.items
    assert (one.verdict, one.detail) == (Verdict.NOT_SENT, "nothing was recommended: CAP_DAY")
    assert capped.decision is not None
    assert (capped.decision.state, capped.decision.reason) == ("suppressed", "CAP_DAY")


@pytest.mark.parametrize(
    ("arguments", "field", "problem"),
    [
        ({"k": 0}, "question.k", "is 0, must be 1 to 500"),
        ({"serving_config": "none"}, "question.serving_config", "is 'none', which is not known"),
        ({"vector": [1.0] * 5}, "question.vector", "has 5 numbers, must have 16"),
        ({"item_ids": ["x"] * 101}, "item_ids", "has 101 entries, may have 100 at most"),
        ({"item_ids": ["x", ""]}, "item_ids[1]", "has 0 bytes"),
        ({"exclude_item_ids": [""]}, "question.exclude_item_ids[0]", "has 0 bytes"),
    ],
)
def test_what_is_wrong_is_named(client: tidings.Client, arguments: dict[str, object], field: str, problem: str) -> None:
    """By the field, inside the question too."""
    items = arguments.pop("item_ids", ["item-1"])
    with pytest.raises(tidings.InvalidArgument) as refused:
        client.explain(tidings.RecommendQuery("user-1", **arguments), items)  # type: ignore[arg-type]
    named, description = refused.value.fields[0]
    assert named == field
    assert problem in description


def test_a_decision_that_is_not_there_is_not_found(client: tidings.Client) -> None:
    """An empty name is refused, an unknown one is not found."""
    with pytest.raises(tidings.NotFound, match="no such decision"):
        client.explain_decision("answer/none")
    with pytest.raises(tidings.InvalidArgument, match="decision_id"):
        client.explain_decision("")


def test_without_a_release_there_is_nothing_to_explain(shop: Shop, tmp_path: Path) -> None:
    """It says so, and what to do."""
    with (
        start_server(shop.path, tmp_path / "state") as bare,
        tidings.Client(bare.address, timeout=30) as client,
        pytest.raises(tidings.FailedPrecondition, match="promote one"),
    ):
        client.explain("user-1", ["item-1"])


def test_the_command_tells_people_and_machines(
    client: tidings.Client, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence with figures and all that is behind it; as JSON on one line."""
    base = ["--server", server.address, "--timeout", "30"]
    assert command.main(["explain", "user-10", "item-9", "elsewhere", "-k", "3", "--context", "item-9", *base]) == 0
    said = capsys.readouterr().out
    assert "item-9  in context: the answer is about it\n" in said
    assert "elsewhere  unknown item: the release has no such item\n" in said
    assert "3 items wanted; the last one in has score " in said
    assert command.main(["explain", "user-10", "-k", "2", *base]) == 0
    said = capsys.readouterr().out
    assert "  recommended: place 1 of 2\n  place 1, score " in said
    assert "the ranker sees of both: " in said
    assert "source" in said
    answer = client.recommend("user-10", k=2)
    assert command.main(["explain", "--decision", answer.decision_id, "--json", *base]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["item_id"] for one in told["items"]] == [item.item.item_id for item in answer.items]
    assert command.main(["explain", "--decision", answer.decision_id, "item-1", *base]) == 0
    assert f"decision {answer.decision_id} for user-10, recommend:for-you: answered" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["explain", *base])


def test_a_filter_of_a_recorded_answer_is_asked_again_as_it_was(client: tidings.Client) -> None:
    """What was no candidate is told by the clause it misses, also from the record alone."""
    wanted = tidings.Filter(
        must=[tidings.any_of("category", "group-2"), tidings.Filter(must_not=[tidings.more_than("price", 99.0)])],
        should=[tidings.at_least("price", 0.0), tidings.all_of("categories", "group-2")],
    )
    question = tidings.RecommendQuery("user-11", k=5, filter=wanted)
    (answer,) = client.batch_recommend([question])
    detail = "the request's filter asks category to be group-2 (must[0])"
    assert client.explain(question, ["item-3"]).items[0].detail == detail
    (then,) = client.explain_decision(answer.decision_id, ["item-3"]).items
    assert (then.verdict, then.recorded) == (Verdict.FILTERED, False)
    assert then.detail == f"it was no candidate; as things are now, {detail}"


def test_a_question_that_no_longer_fits_leaves_what_the_record_knows(
    client: tidings.Client, server: RunningServer, built_shop: Shop, tmp_path: Path
) -> None:
    """Of an item that was no candidate that much is told, also when it cannot be asked again."""
    shutil.copytree(built_shop.path, tmp_path / "releases")
    other = make_world(dim=8, seed=5).write(tmp_path / "releases").release_id
    env = {"TIDINGS_RECORD_SHARE": "1"}
    with (
        start_server(tmp_path / "releases", tmp_path / "state", env=env) as running,
        tidings.Client(running.address, timeout=30) as own,
    ):
        own.promote_release(built_shop.a)
        answer = own.recommend("user-1", k=3, vector=[1.0] * 16)
        got = [item.item.item_id for item in answer.items]
        own.promote_release(other)
        (then, missed) = own.explain_decision(answer.decision_id, [got[0], "elsewhere"]).items
    assert (then.verdict, then.recorded) == (Verdict.RECOMMENDED, True)
    assert (missed.verdict, missed.detail) == (Verdict.NOT_RETRIEVED, "it was no candidate")
