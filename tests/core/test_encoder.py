"""The encoder: what a person did last, read in order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.support.world import NOW, make_world
from tidings_core.encoder import STEPS, OnnxEncoder, encoded
from tidings_core.errors import EncoderFailed, InvalidInput
from tidings_core.events import Event, EventItem, EventType
from tidings_core.model import Person, Query, ServingConfig, SourceUse
from tidings_core.person import view
from tidings_core.profile import EMPTY, fold
from tidings_core.recommend import recommend
from tidings_core.release import write_release
from tidings_core.tables import Float32, Float64, Int64

WORLD = make_world()
DIM = WORLD.parts.item_vectors.shape[1]
ANN = ServingConfig("ann", (SourceUse("ann", 20),), rerank=False, exclude_bought=False)


def last_item(
    dim: int = DIM, kind: int = TensorProto.FLOAT, broken: bool = False, left_out: str = "", apart: str = "none"
) -> bytes:
    """An encoder that gives the vector of the last thing done; `broken`: divided by the seconds since, less `apart`."""
    constants: dict[str, NDArray[Any]] = {
        "one": np.array([1], np.int64), "last": np.array([-1], np.int64), "middle": np.array([1], np.int64),
        "none": np.zeros(1, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["lengths", "one"], ["places"]),
        helper.make_node("Unsqueeze", ["places", "last"], ["wide"]),
        helper.make_node("GatherND", ["vectors", "wide"], ["found"], batch_dims=1),
        helper.make_node("Unsqueeze", ["since", "last"], ["seconds"]),
        helper.make_node("Sub", ["seconds", apart], ["between"]),
        helper.make_node("Div", ["found", "between"], ["vector"])
        if broken
        else helper.make_node("Identity", ["found"], ["vector"]),
    ]
    given: dict[str, tuple[int, list[str | int | None]]] = {
        "vectors": (kind, ["B", "L", dim]), "gaps": (TensorProto.FLOAT, ["B", "L"]),
        "lengths": (TensorProto.INT64, ["B"]), "since": (TensorProto.FLOAT, ["B"]),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "last",
        [helper.make_tensor_value_info(name, type, axes) for name, (type, axes) in given.items() if name != left_out],
        [helper.make_tensor_value_info("vector", kind, ["B", dim])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


SNAPSHOT = replace(WORLD.snapshot(), encoder=OnnxEncoder(last_item(), DIM))


def events(*done: tuple[EventType, int, int]) -> list[tuple[Event, list[int]]]:
    """Events of a type with an item's row at so many seconds before NOW; item_no is the row."""
    return [
        (
            Event(f"e{at}", type, "u", int((NOW - ago) * 1000), (EventItem(WORLD.parts.item_ids[row]),), value=5.0),
            [row],
        )
        for at, (type, row, ago) in enumerate(done)
    ]


def person_of(*done: tuple[EventType, int, int]) -> Person:
    """What the snapshot makes of a stranger who did this."""
    rows = np.arange(len(WORLD.parts.item_ids), dtype=np.int32)
    return view(fold(EMPTY, events(*done)), rows, SNAPSHOT, -1)


def answered(person: Person, k: int = 5) -> list[int]:
    """The rows of an answer by vectors alone."""
    (answer,) = recommend([Query("stranger", ANN, k, person=person)], SNAPSHOT, NOW)
    return [item.row for item in answer.items]


def nearest(row: int, k: int = 5) -> list[int]:
    """The rows nearest to an item's vector, counted."""
    vectors = WORLD.parts.item_vectors
    return np.argsort(-(vectors @ vectors[row]), kind="stable")[:k].tolist()


def test_a_stranger_is_answered_by_what_was_done_last() -> None:
    """Of the same two views the later one decides, whatever the order in which they were told."""
    for first, second in ((3, 100), (100, 3)):
        person = person_of(("view", second, 60), ("view", first, 3600))
        assert person.steps.tolist() == [first, second]
        assert person.vector is None
        assert answered(person) == nearest(second)


def test_only_what_was_liked_is_read_and_of_that_the_newest() -> None:
    """Dismissed, blocked and given back items are no steps; of a long past the newest STEPS are read, oldest first."""
    person = person_of(
        ("view", 1, 500), ("dismiss", 2, 400), ("view", 3, 300), ("see_less", 3, 200), ("purchase", 4, 100),
        ("return", 4, 50), ("purchase", 5, 20),
    )  # fmt: skip
    assert person.steps.tolist() == [1, 5]
    assert person.step_times.tolist() == [NOW - 500, NOW - 20]
    long = person_of(*(("view", row, 1000 - row) for row in range(80)))
    assert long.steps.tolist() == list(range(80 - STEPS, 80))


def test_people_are_encoded_together_as_they_are_alone() -> None:
    """Pasts of different lengths in one batch do not touch each other."""
    rows = [np.array(one, np.int32) for one in ([1], [2, 3, 4], [5, 6])]
    times: list[Float64] = [NOW - 10.0 * np.arange(float(len(one)), 0.0, -1.0) for one in rows]
    together = encoded(rows, times, NOW, SNAPSHOT)
    alone = [encoded([one], [when], NOW, SNAPSHOT)[0] for one, when in zip(rows, times, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    np.testing.assert_allclose(together, WORLD.parts.item_vectors[[1, 4, 6]], rtol=1e-6)


def test_without_an_encoder_nothing_is_kept_for_one() -> None:
    """A snapshot without an encoder gives a person no steps, and the vector that is folded in."""
    rows = np.arange(len(WORLD.parts.item_ids), dtype=np.int32)
    person = view(fold(EMPTY, events(("view", 3, 60))), rows, WORLD.snapshot(), -1)
    assert len(person.steps) == 0
    assert person.vector is not None


def test_an_encoder_that_fails_leaves_the_vectors_of_the_release() -> None:
    """A vector that is no number is not searched with: the answer says so, and is made with what else is known."""
    broken = replace(WORLD.snapshot(), encoder=OnnxEncoder(last_item(broken=True), DIM))
    user = WORLD.parts.user_ids[0]
    person = Person(steps=np.array([200], np.int32), step_times=np.array([NOW]))
    (answer,) = recommend([Query(user, ANN, 5, person=person)], broken, NOW)
    (own,) = recommend([Query(user, ANN, 5, person=Person())], WORLD.snapshot(), NOW)
    assert [item.row for item in answer.items] == [item.row for item in own.items]
    assert [(one.cause, one.stage) for one in answer.degraded] == [("failed", "encoder")]
    assert np.isnan(encoded([person.steps], [person.step_times], NOW, broken)).all()


def test_of_whom_the_encoder_makes_nothing_no_one_else_hears() -> None:
    """In one batch: who is encoded gets that, who has done nothing is told nothing, and only one is told it failed."""
    broken = replace(WORLD.snapshot(), encoder=OnnxEncoder(last_item(broken=True), DIM))
    user = WORLD.parts.user_ids[0]
    step = np.array([200], np.int32)
    failing = Person(steps=step, step_times=np.array([NOW]))
    whole = Person(steps=step, step_times=np.array([NOW - 1.0]))
    queries = [Query(user, ANN, 5, person=person) for person in (failing, whole, Person(), None)]
    answers = recommend(queries, broken, NOW)
    assert [[one.stage for one in answer.degraded] for answer in answers] == [["encoder"], [], [], []]
    assert [item.row for item in answers[1].items] == nearest(200)


def test_no_release_is_written_with_an_encoder_that_makes_no_numbers(tmp_path: Path) -> None:
    """The reason is the encoder's, and nothing is left behind."""
    parts = replace(WORLD.parts, encoder=last_item(broken=True, apart="seconds"))
    with pytest.raises(InvalidInput, match="golden pasts that are no finite numbers"):
        write_release(tmp_path, parts, NOW)
    assert not list(tmp_path.iterdir())


def test_what_is_told_ahead_of_the_clock_was_done_just_now() -> None:
    """An encoder is told of no pause below 0, whatever the clocks of those who record events say."""

    class Told:
        """Keeps the pauses that it is told."""

        def encode(self, vectors: Float32, gaps: Float32, lengths: Int64, since: Float32) -> Float32:  # noqa: ARG002
            self.gaps, self.since = gaps, since
            return vectors[:, 0]

    told = Told()
    encoded([np.array([1, 2], np.int32)], [np.array([NOW, NOW + 60.0])], NOW, replace(SNAPSHOT, encoder=told))
    assert told.since.tolist() == [0.0]
    assert told.gaps.tolist() == [[0.0, 60.0]]


def test_who_has_steps_is_known() -> None:
    """Somebody whose vector an encoder makes is no unknown user, even when nothing is left to start from."""
    person = person_of(("rating", 3, 300), ("dismiss", 3, 100))
    assert len(person.steps) == 1
    assert len(person.interests) + len(person.history.rows) + len(person.unbought) + len(person.categories) == 0
    config = replace(ANN, sources=(*ANN.sources, SourceUse("similar", 20)))
    (answer,) = recommend([Query("stranger", config, 5, person=person)], SNAPSHOT, NOW)
    assert [item.row for item in answer.items] == nearest(3)
    assert not answer.degraded


def test_a_wrong_signature_is_refused_with_every_difference() -> None:
    """Missing inputs, other types and other dimensions are named."""
    with pytest.raises(InvalidInput, match="encoder input gaps: is missing"):
        OnnxEncoder(last_item(left_out="gaps"), DIM)
    with pytest.raises(InvalidInput) as refused:
        OnnxEncoder(last_item(dim=DIM + 1), DIM)
    assert [field for field, _ in refused.value.violations] == ["encoder input vectors", "encoder output vector"]
    with pytest.raises(InvalidInput, match="must be tensor"):
        OnnxEncoder(last_item(kind=TensorProto.DOUBLE), DIM)
    with pytest.raises(InvalidInput, match="cannot load"):
        OnnxEncoder(b"no model", DIM)
    vectors: Float32 = np.zeros((1, 1, DIM), np.float32)
    with pytest.raises(EncoderFailed):
        OnnxEncoder(last_item(), DIM).encode(vectors, vectors[:, :, 0], np.array([9]), np.ones(1, np.float32))
