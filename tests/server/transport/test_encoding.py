"""Spliced bytes parse to exactly the message that is built the plain way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings.v1 import item_pb2
from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core import model, ranked, sources
from tidings_core.model import Answer, Degradation, Query, Snapshot
from tidings_core.ranked import Items, RankedItem, Reason
from tidings_core.recommend import recommend
from tidings_core.tables import BytesTable
from tidings_server.transport.encoding import CAUSES, REASONS, add_degraded, encode_answers, encode_batch, varint

SNAPSHOT = make_world(items=300).snapshot()

FLOATS = st.floats(width=32, allow_nan=False)
ROWS = st.integers(0, 299)
REASON = st.builds(Reason, st.sampled_from(list(REASONS)), st.one_of(st.just(-1), ROWS), st.text(max_size=300))
SOURCES = st.lists(
    st.tuples(st.sampled_from(list(sources.SOURCES)), FLOATS), max_size=3, unique_by=lambda one: one[0]
).map(tuple)
ITEM = st.builds(RankedItem, ROWS, FLOATS, SOURCES, st.lists(REASON, max_size=3).map(tuple))
DEGRADED = st.builds(Degradation, st.sampled_from(list(CAUSES)), st.text(max_size=20), st.text(max_size=200))
ANSWER = st.builds(Answer, st.lists(ITEM, max_size=40).map(Items.of), st.lists(DEGRADED, max_size=3).map(tuple))


def head() -> pb.RecommendResponse:
    """What an answer carries besides items and degradations."""
    return pb.RecommendResponse(
        release_id="r", release_age_seconds=1.5, index_age_seconds=2.5, serving_config="for-you", request_id="日本"
    )


def encode(answer: Answer, snapshot: Snapshot) -> bytes:
    """The bytes of an answer alone."""
    made = head()
    add_degraded(made, answer.degraded)
    return encode_answers([answer.items], snapshot)[0] + made.SerializeToString()


def plainly(answer: Answer) -> pb.RecommendResponse:
    """The response built field by field."""
    response = head()
    for item in answer.items:
        response.items.add(
            item=item_pb2.Item.FromString(SNAPSHOT.payloads[item.row]),
            score=item.score,
            sources=[pb.SourceScore(source=name, score=score) for name, score in item.sources],
            reasons=[
                pb.Reason(
                    code=pb.ReasonCode.Name(REASONS[reason.code]),
                    item_id=SNAPSHOT.items[reason.item_row] if reason.item_row >= 0 else "",
                    text=reason.text,
                )
                for reason in item.reasons
            ],
        )
    for degraded in answer.degraded:
        response.degraded.add(cause=CAUSES[degraded.cause], stage=degraded.stage, detail=degraded.detail)
    return response


@given(ANSWER)
def test_an_answer_is_the_message_built_plainly(answer: Answer) -> None:
    """Whatever the answer, nothing is lost, added or out of order; the bytes hold no unknown field either."""
    spliced = pb.RecommendResponse.FromString(encode(answer, SNAPSHOT))
    assert spliced == plainly(answer)
    assert spliced.ByteSize() == plainly(answer).ByteSize()


@settings(max_examples=30)
@given(st.lists(ANSWER, max_size=5))
def test_a_batch_is_the_message_built_plainly(answers: Sequence[Answer]) -> None:
    """The responses stand in order, each as it is alone."""
    spliced = encode_batch([encode(answer, SNAPSHOT) for answer in answers])
    assert pb.BatchRecommendResponse.FromString(spliced) == pb.BatchRecommendResponse(
        responses=[plainly(answer) for answer in answers]
    )


def test_answers_made_together_are_encoded_together() -> None:
    """Each is the message built plainly, with the reasons that rest on items and on words, and however many it has."""
    serving = replace(model.SERVING_CONFIGS["for-you"], exclude_bought=False)
    queries = [
        Query(
            f"user-{user}",
            serving,
            k=1 + user % 30,
            search="group 3" if user % 3 == 0 else "",
            category="group-2" if user % 4 == 0 else "",
            context_item_ids=["item-7"] if user % 5 == 0 else (),
        )
        for user in range(64)
    ]
    answers = recommend([*queries, Query("stranger", model.SERVING_CONFIGS["search"])], SNAPSHOT, NOW)
    codes = {reason.code for answer in answers for item in answer.items for reason in item.reasons}
    assert codes >= {"matches_taste", "similar_to_bought", "similar_to_context", "trending", "searched", "in_category"}
    bodies = encode_answers([answer.items for answer in answers], SNAPSHOT)
    for answer, body in zip(answers, bodies, strict=True):
        assert pb.RecommendResponse.FromString(body).items == plainly(answer).items
    assert not bodies[-1]


def test_large_items_are_spliced_whole() -> None:
    """Lengths of two and more bytes are written right: an item of 100 kB."""
    large = item_pb2.Item(item_id="large", description="x" * 100_000).SerializeToString()
    world = make_world(items=300)
    snapshot = world.snapshot()
    payloads = [large, *world.parts.payloads[1:]]
    snapshot = replace(snapshot, payloads=BytesTable.of(payloads))
    answer = Answer(Items.of([RankedItem(0, 1.0, (), ()), RankedItem(1, 0.5, (), ())]))
    response = pb.RecommendResponse.FromString(encode(answer, snapshot))
    assert [len(item.item.description) for item in response.items] == [100_000, 0]
    assert response.items[1].item.item_id == "item-1"


@given(st.integers(0, 2**63 - 1))
def test_varints_are_protobufs(value: int) -> None:
    """Every number is written as protobuf writes it."""
    encoded = varint(value)
    assert pb.RecommendRequest.FromString(b"\x18" + varint(value & 0x7FFFFFFF)).k == value & 0x7FFFFFFF
    decoded = sum((byte & 127) << (7 * at) for at, byte in enumerate(encoded))
    assert decoded == value
    assert all(byte & 128 for byte in encoded[:-1])
    assert not encoded[-1] & 128


def test_every_reason_and_cause_has_its_number() -> None:
    """No word of the core is without its enum value, and no two share one."""
    assert set(REASONS) == set(get_args(ranked.ReasonCode))
    assert set(CAUSES) == set(get_args(model.Cause))
    assert sorted(REASONS.values()) == sorted(set(pb.ReasonCode.values()) - {0})
    assert sorted(CAUSES.values()) == sorted(set(pb.DegradationCause.values()) - {0})
