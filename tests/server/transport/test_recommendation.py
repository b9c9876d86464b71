"""RecommendationService: what it accepts, what it refuses and how it says so, and that bad calls hurt no others."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.errors import DeadlinePassed, InvalidInput, TidingsError
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.release import Manifest, Release
from tidings_server.application.recommend import Answers, Left, Recommend
from tidings_server.metrics import Metrics
from tidings_server.transport import recommendation
from tidings_server.transport.calls import Call
from tidings_server.transport.recommendation import RecommendationHandlers

LATER = 1e12


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release in memory with the manifest of one on disk."""
    world = make_world()
    manifest: Manifest = world.write(tmp_path_factory.mktemp("releases"))
    return Release(manifest, Path("nowhere"), world.snapshot())


@dataclass
class Holder:
    """Stands where Serving stands: it only has a release."""

    release: Release | None


@dataclass
class Desk:
    """The handlers, and what they asked of the application."""

    handlers: RecommendationHandlers
    metrics: Metrics
    asked: list[Sequence[Query]] = field(default_factory=list)

    def recommend(self, *requests: pb.RecommendRequest | bytes) -> list[bytes | TidingsError]:
        """Send a batch of Recommend calls."""
        bodies = [request if isinstance(request, bytes) else request.SerializeToString() for request in requests]
        return self.handlers.recommend([Call(body, LATER) for body in bodies])

    def one(self, **fields: Any) -> pb.RecommendResponse:
        """The response to one request."""
        (answer,) = self.recommend(pb.RecommendRequest(**fields))
        assert isinstance(answer, bytes), answer
        return pb.RecommendResponse.FromString(answer)

    def refused(self, **fields: Any) -> dict[str, str]:
        """The violations of one request."""
        (error,) = self.recommend(pb.RecommendRequest(**fields))
        assert isinstance(error, InvalidInput), error
        return dict(error.violations)

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric's sample."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def _refuse_token(token: str) -> None:
    """Stands where the store's check stands: it takes "good" and knows no other token."""
    if token != "good":
        raise InvalidInput(("consistency_token", "is no token"))


@pytest.fixture
def desk(release: Release) -> Desk:
    """Handlers over the real application and a real release."""
    metrics = Metrics()
    answer = Recommend(Holder(release), lambda: NOW + 100.0, lambda: 0.0)  # type: ignore[arg-type]
    desk: Desk

    def ask(queries: Sequence[Query], deadlines: Sequence[float], left: Left) -> Answers:
        desk.asked.append(queries)
        return answer(queries, deadlines, left)

    desk = Desk(RecommendationHandlers(ask, SERVING_CONFIGS, metrics, lambda: 0.0, _refuse_token), metrics)
    return desk


def test_an_answer_carries_everything(desk: Desk, release: Release) -> None:
    """Items as the catalogue shows them, scores, sources, reasons, release, ages and the caller's own id."""
    answer = desk.one(user_id="user-7", k=5, request_id="r-1")
    assert len(answer.items) == 5
    assert all(item.item.title.startswith("Group 1 thing") and item.item.price > 0 for item in answer.items)
    assert all(item.sources and item.reasons for item in answer.items)
    assert sorted((item.score for item in answer.items), reverse=True) == [item.score for item in answer.items]
    assert (answer.release_id, answer.request_id) == (release.manifest.release_id, "r-1")
    assert (answer.release_age_seconds, answer.index_age_seconds) == (100.0, 100.0)
    assert answer.serving_config == "for-you"
    assert not answer.degraded


def test_k_is_20_when_unset(desk: Desk) -> None:
    """The proto's default."""
    assert len(desk.one(user_id="user-1").items) == 20


def test_an_absent_history_item_names_no_row(desk: Desk) -> None:
    """A reason that rests on an item names one of the user's own; one that rests on none names none."""
    for item in desk.one(user_id="user-1").items:
        for reason in item.reasons:
            on_item = reason.code in (pb.REASON_CODE_SIMILAR_TO_BOUGHT, pb.REASON_CODE_SIMILAR_TO_CONTEXT)
            assert reason.item_id.startswith("item-") == on_item


def test_context_and_excluded_items_are_not_in_the_answer(desk: Desk) -> None:
    """Ids that are not in the release are ignored."""
    first = [item.item.item_id for item in desk.one(user_id="user-1", k=10).items]
    answer = desk.one(
        user_id="user-1", k=10, context_item_ids=[first[0], "unheard of"], exclude_item_ids=[*first[1:4], "nor this"]
    )
    assert not set(first[:4]) & {item.item.item_id for item in answer.items}
    assert not answer.degraded


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({"user_id": ""}, {"user_id": "has 0 bytes, must have 1 to 256"}),
        ({"user_id": "x" * 257}, {"user_id": "has 257 bytes, must have 1 to 256"}),
        ({"user_id": "界" * 86}, {"user_id": "has 258 bytes, must have 1 to 256"}),
        ({"k": 0}, {"k": "is 0, must be 1 to 500"}),
        ({"k": -1}, {"k": "is -1, must be 1 to 500"}),
        ({"k": 501}, {"k": "is 501, must be 1 to 500"}),
        ({"k": 1_000_000}, {"k": "is 1000000, must be 1 to 500"}),
        ({"context_item_ids": ["a"] * 65}, {"context_item_ids": "has 65 entries, may have 64 at most"}),
        ({"context_item_ids": ["a", ""]}, {"context_item_ids[1]": "has 0 bytes, must have 1 to 256"}),
        ({"exclude_item_ids": ["a"] * 10_001}, {"exclude_item_ids": "has 10001 entries, may have 10000 at most"}),
        ({"exclude_item_ids": ["x" * 300]}, {"exclude_item_ids[0]": "has 300 bytes, must have 1 to 256"}),
        ({"query": "x" * 1025}, {"query": "has 1025 bytes, may have 1024 at most"}),
        ({"category": "界" * 86}, {"category": "has 258 bytes, may have 256 at most"}),
        ({"consistency_token": "bad", "k": 0}, {"consistency_token": "is no token", "k": "is 0, must be 1 to 500"}),
        ({"request_id": "x" * 257}, {"request_id": "has 257 bytes, may have 256 at most"}),
        (
            {"serving_config": "nope"},
            {
                "serving_config": "is 'nope', which is not known; "
                "known are browse, cart, for-you, goes-with, search, similar, trending"
            },
        ),
        (
            {"examples": pb.RecommendExamples(liked_item_ids=["a"] * 65, disliked_item_ids=[""])},
            {
                "examples.liked_item_ids": "has 65 entries, may have 64 at most",
                "examples.disliked_item_ids[0]": "has 0 bytes, must have 1 to 256",
            },
        ),
        (
            {"vector": [1.0, float("nan"), float("-inf"), 2e6]},
            {
                "vector[1]": "is nan, must be from -1e6 to 1e6",
                "vector[2]": "is -inf, must be from -1e6 to 1e6",
                "vector[3]": "is 2000000.0, must be from -1e6 to 1e6",
            },
        ),
        ({"vector": [0.0] * 16}, {"vector": "is zero everywhere and near to nothing; leave it out"}),
        ({"user_id": "", "k": 0}, {"user_id": "has 0 bytes, must have 1 to 256", "k": "is 0, must be 1 to 500"}),
    ],
)
def test_a_bad_request_names_field_and_limit(desk: Desk, fields: dict[str, Any], violations: dict[str, str]) -> None:
    """Every fault is named, and nothing is asked of the application."""
    assert desk.refused(**{"user_id": "u", **fields}) == violations
    assert desk.asked == []


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "x" * 256},
        {"user_id": "界" * 85},
        {"k": 1},
        {"k": 500},
        {"context_item_ids": ["a"] * 64},
        {"exclude_item_ids": [f"item-{n}" for n in range(10_000)]},
        {"request_id": "x" * 256},
        {"query": "x" * 1024},
        {"category": "x" * 256},
        {"consistency_token": "good"},
        {"serving_config": "trending"},
        {"examples": pb.RecommendExamples(liked_item_ids=["a"] * 64, disliked_item_ids=["b"] * 64)},
        {"vector": [1e6] * 16},
    ],
)
def test_the_limits_themselves_are_allowed(desk: Desk, fields: dict[str, Any]) -> None:
    """What stands in the proto works up to and including the limit."""
    desk.one(**{"user_id": "user-1", **fields})


def test_a_vector_of_other_dimensions_is_refused_and_hurts_no_other(desk: Desk) -> None:
    """Only the release knows how many there must be; the others of the batch are answered."""
    told = "has 3 numbers, must have 16: as many as the release's embeddings"
    bad, good = desk.recommend(
        pb.RecommendRequest(user_id="user-1", vector=[1.0] * 3), pb.RecommendRequest(user_id="user-1")
    )
    assert isinstance(bad, InvalidInput)
    assert dict(bad.violations) == {"vector": told}
    assert isinstance(good, bytes)
    batch = pb.BatchRecommendRequest(
        requests=[pb.RecommendRequest(user_id="u", vector=[1.0] * count) for count in (16, 3)]
    )
    (refused,) = desk.handlers.batch_recommend([Call(batch.SerializeToString(), LATER)])
    assert isinstance(refused, InvalidInput)
    assert dict(refused.violations) == {"requests[1].vector": told}


def test_examples_and_a_vector_reach_the_answer(desk: Desk) -> None:
    """A stranger who likes an item of a group gets that group; a vector stands in for the user's own."""
    liked = pb.RecommendExamples(liked_item_ids=["item-3"], disliked_item_ids=["item-4"])
    answer = desk.one(user_id="nobody", k=5, examples=liked)
    assert all(item.item.title.startswith("Group 3 ") for item in answer.items)
    desk.one(user_id="nobody", vector=[1.0] * 16)
    (query,) = desk.asked[-1]
    assert query.vector is not None
    assert query.vector.tolist() == [1.0] * 16


def test_many_faults_are_cut_to_what_fits_a_header(desk: Desk) -> None:
    """A request with 10,000 faults gets eight of them and the number of the others."""
    found = desk.refused(user_id="u", exclude_item_ids=[""] * 10_000)
    assert len(found) == 8
    assert "9992 more faults" in found["exclude_item_ids[7]"]


@pytest.mark.parametrize(
    "body",
    [b"\xff", b"garbage", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x22\x01\xc3", b"\x00"],
    ids=["tag", "text", "truncated", "user_id not UTF-8", "context not UTF-8", "field 0"],
)
def test_bytes_that_are_no_request_are_invalid_input(desk: Desk, body: bytes) -> None:
    """Damaged bytes and texts that are not UTF-8 are the caller's fault and are said to be."""
    (error,) = desk.recommend(body)
    assert isinstance(error, InvalidInput)
    assert "is not a RecommendRequest" in str(error)


def test_fields_of_a_later_version_are_ignored(desk: Desk) -> None:
    """A newer client may send more than this server knows."""
    body = pb.RecommendRequest(user_id="user-1").SerializeToString() + b"\x9a\x06\x03new"
    (answer,) = desk.recommend(body)
    assert isinstance(answer, bytes)


def test_a_bad_call_hurts_no_neighbour_in_its_batch(desk: Desk) -> None:
    """Answers and errors stand in the order of the calls, and the good ones are as they are alone."""
    alone = [desk.one(user_id=f"user-{n}", k=3) for n in range(3)]
    good = [pb.RecommendRequest(user_id=f"user-{n}", k=3) for n in range(3)]
    bad = pb.RecommendRequest(user_id="", k=3)
    made = desk.recommend(bad, good[0], b"\xff", good[1], good[2], bad)
    assert [isinstance(answer, InvalidInput) for answer in made] == [True, False, True, False, False, True]
    found = [pb.RecommendResponse.FromString(answer) for answer in made if isinstance(answer, bytes)]
    # Another batch size may round the last bit of a score otherwise.
    for got, expected in zip(found, alone, strict=True):
        assert [item.item.item_id for item in got.items] == [item.item.item_id for item in expected.items]
        np.testing.assert_allclose([i.score for i in got.items], [i.score for i in expected.items], rtol=1e-5)


def test_one_batch_of_calls_is_asked_at_once(desk: Desk) -> None:
    """Sixteen calls become one question to the application."""
    desk.recommend(*[pb.RecommendRequest(user_id=f"user-{n}") for n in range(16)])
    assert [len(queries) for queries in desk.asked] == [16]


def test_a_late_call_gets_its_own_error(desk: Desk) -> None:
    """The deadline of one call is no other's."""
    body = pb.RecommendRequest(user_id="user-1").SerializeToString()
    late, fine = desk.handlers.recommend([Call(body, -1.0), Call(body, LATER)])
    assert isinstance(late, DeadlinePassed)
    assert isinstance(fine, bytes)


def test_a_fault_of_ours_is_logged_with_the_request_and_hurts_only_its_own_call(release: Release) -> None:
    """A query that breaks the application gets INTERNAL without its inside; its neighbours are answered."""
    answer = Recommend(Holder(release), lambda: NOW, lambda: 0.0)  # type: ignore[arg-type]

    def ask(queries: Sequence[Query], deadlines: Sequence[float], left: Left) -> Answers:
        if any(query.user_id == "poison" for query in queries):
            raise ZeroDivisionError("secret")
        return answer(queries, deadlines, left)

    desk = Desk(RecommendationHandlers(ask, SERVING_CONFIGS, Metrics(), lambda: 0.0, _refuse_token), Metrics())
    with structlog.testing.capture_logs() as lines:
        made = desk.recommend(
            pb.RecommendRequest(user_id="user-1"), pb.RecommendRequest(user_id="poison", request_id="r-666")
        )
    assert isinstance(made[0], bytes)
    assert isinstance(made[1], TidingsError)
    assert "secret" not in str(made[1])
    assert lines[-1]["request_ids"] == ["r-666"]
    assert "poison" not in json.dumps([{**line, "exc_info": None} for line in lines])


def test_degradations_are_counted(desk: Desk) -> None:
    """An operator sees what answers had to do without."""
    desk.one(user_id="nobody")
    assert desk.counted("tidings_degraded_total", cause="unknown_user", stage="user") == 1.0


def batch(desk: Desk, *requests: pb.RecommendRequest) -> bytes | TidingsError:
    """Send one BatchRecommend call."""
    body = pb.BatchRecommendRequest(requests=requests).SerializeToString()
    return desk.handlers.batch_recommend([Call(body, LATER)])[0]


def test_a_batch_is_answered_in_order(desk: Desk) -> None:
    """256 requests get 256 answers, each its own."""
    requests = [pb.RecommendRequest(user_id=f"user-{n % 60}", k=1 + n % 3, request_id=str(n)) for n in range(256)]
    answer = batch(desk, *requests)
    assert isinstance(answer, bytes)
    responses = pb.BatchRecommendResponse.FromString(answer).responses
    assert [(r.request_id, len(r.items)) for r in responses] == [(str(n), 1 + n % 3) for n in range(256)]


def test_one_bad_request_refuses_the_whole_batch_and_is_named(desk: Desk) -> None:
    """The field says which request it was in."""
    requests = [pb.RecommendRequest(user_id="user-1") for _ in range(5)]
    requests[3].k = 0
    requests[4].user_id = ""
    error = batch(desk, *requests)
    assert isinstance(error, InvalidInput)
    assert [field for field, _ in error.violations] == ["requests[3].k", "requests[4].user_id"]
    assert desk.asked == []


@pytest.mark.parametrize("count", [0, 257])
def test_a_batch_has_1_to_256_requests(desk: Desk, count: int) -> None:
    """An empty and an oversized batch are refused with the limit."""
    error = batch(desk, *[pb.RecommendRequest(user_id="u")] * count)
    assert isinstance(error, InvalidInput)
    assert list(error.violations) == [("requests", f"has {count} entries, must have 1 to 256")]


def test_a_batch_that_is_none_is_invalid_input(desk: Desk) -> None:
    """Damaged bytes are refused."""
    (error,) = desk.handlers.batch_recommend([Call(b"\xff", LATER)])
    assert isinstance(error, InvalidInput)


def test_a_late_batch_is_late_as_a_whole(desk: Desk) -> None:
    """One deadline, one error."""
    body = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(user_id="u")] * 3).SerializeToString()
    (error,) = desk.handlers.batch_recommend([Call(body, -1.0)])
    assert isinstance(error, DeadlinePassed)


def test_no_level_logs_who_asked(desk: Desk) -> None:
    """At debug there is one line per call, which names the request; a user leaves no trace in the log."""
    for level, expected in ((logging.INFO, 0), (logging.DEBUG, 1)):
        lines: list[str] = []
        structlog.configure(
            processors=[structlog.processors.JSONRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=lambda *_, lines=lines: _Lines(lines),
            cache_logger_on_first_use=False,
        )
        try:
            recommendation.log = structlog.get_logger()
            desk.one(user_id="user-1", request_id="r-9")
        finally:
            structlog.reset_defaults()
            recommendation.log = structlog.get_logger()
        assert len([line for line in lines if "r-9" in line]) == expected
        assert not [line for line in lines if "user-1" in line]


class _Lines:
    """Collects rendered lines."""

    def __init__(self, lines: list[str]) -> None:
        self.debug = self.info = self.warning = self.error = lines.append


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_break_the_handlers(release: Release, body: bytes) -> None:
    """Any bytes are answered or refused as invalid."""
    ask = Recommend(Holder(release), lambda: NOW, lambda: 0.0)  # type: ignore[arg-type]
    handlers = RecommendationHandlers(ask, SERVING_CONFIGS, METRICS, lambda: 0.0, _refuse_token)
    for made in (handlers.recommend([Call(body, LATER)]), handlers.batch_recommend([Call(body, LATER)])):
        assert isinstance(made[0], bytes | InvalidInput)


METRICS = Metrics()


def test_every_item_of_an_answer_passes_the_filter(desk: Desk) -> None:
    """Cheap things of two groups: no other comes, and the page is full."""
    answer = desk.one(
        user_id="user-7",
        filter={
            "must": [{"attribute": "price", "number": {"lt": 50.0}}],
            "must_not": [{"attribute": "category", "any_of": {"values": ["group-1", "group-2"]}}],
        },
    )
    assert len(answer.items) == 20
    assert all(item.item.price < 50 for item in answer.items)
    assert not {"group-1", "group-2"} & {name for item in answer.items for name in item.item.categories}


def test_a_filter_is_refused_with_all_its_faults(desk: Desk) -> None:
    """What is wrong by itself, and what does not fit the release, by place; in a batch by request too."""
    empty: dict[str, Any] = {"attribute": "price", "number": {"gt": 5.0, "lt": 3.0}}
    assert desk.refused(user_id="u", k=0, filter={"must": [empty, {"attribute": "x"}]}).keys() == {
        "k",
        "filter.must[1]",
    }
    assert desk.refused(user_id="u", k=0, filter={"must": [empty]}).keys() == {"k", "filter.must[0].number"}
    unfit: dict[str, Any] = {
        "must": [{"attribute": "colour", "any_of": {"values": ["red"]}}],
        "should": [{"attribute": "price", "flag": True}],
    }
    told = desk.refused(user_id="u", filter=unfit)
    assert told["filter.must[0].attribute"] == (
        "is 'colour', which no item has; there are categories (tags), category (keyword), price (number)"
    )
    assert told["filter.should[0].flag"] == "is not for price, a number; use number"
    requests: list[Any] = [{"user_id": "u"}, {"user_id": "u", "filter": unfit}]
    batch = pb.BatchRecommendRequest(requests=requests)
    (error,) = desk.handlers.batch_recommend([Call(batch.SerializeToString(), LATER)])
    assert isinstance(error, InvalidInput)
    assert [field for field, _ in error.violations] == [
        "requests[1].filter.must[0].attribute",
        "requests[1].filter.should[0].flag",
    ]
