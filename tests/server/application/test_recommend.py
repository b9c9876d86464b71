"""Recommend reads one release per batch, keeps deadlines, and never fails for want of a release."""

from pathlib import Path

import pytest

from tests.server.conftest import Clock, Shop, picky_ranker
from tests.support.world import NOW, make_world
from tidings_core.errors import DeadlinePassed
from tidings_core.model import SERVING_CONFIGS, Answer, Query
from tidings_core.recommend import recommend
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.recommend import Made, Recommend
from tidings_server.application.serving import Serving

FOR_YOU = SERVING_CONFIGS["for-you"]


class Ticking:
    """A monotonic clock that moves on by `step` seconds each time it is read."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 100.0
        self.step = step

    def __call__(self) -> float:
        """Move on, and say the time."""
        self.now += self.step
        return self.now


@pytest.fixture
def promote(directory: ReleaseDirectory, serving: Serving, clock: Clock) -> PromoteRelease:
    """Promotes into `serving`."""
    return PromoteRelease(directory, serving, clock)


def queries(*users: str) -> list[Query]:
    """One query for each user."""
    return [Query(user, FOR_YOU, 10) for user in users]


def good(answers: list[Made]) -> list[Answer]:
    """The answers, all of which must be answers."""
    assert all(isinstance(answer, Answer) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Answer)]


def causes(answer: Answer) -> list[tuple[str, str]]:
    """What an answer had to do without."""
    return [(degraded.cause, degraded.stage) for degraded in answer.degraded]


def test_without_a_release_the_answer_is_empty_and_says_so(serving: Serving, clock: Clock) -> None:
    """No release is a degradation, never an error."""
    made = Recommend(serving, clock, Ticking())(queries("user-1", "user-2"), [101.0, 101.0])
    assert made.release is None
    assert [causes(answer) for answer in good(made.answers)] == [[("no_release", "release")]] * 2
    assert all(not answer.items for answer in good(made.answers))


def test_answers_are_those_of_the_core(shop: Shop, promote: PromoteRelease, serving: Serving, clock: Clock) -> None:
    """The server adds nothing to and takes nothing from what the core computes, and says when it was computed."""
    release, _ = promote(shop.a)
    asked = queries("user-1", "user-2", "nobody")
    made = Recommend(serving, clock, Ticking())(asked, [200.0] * 3)
    assert made.answers == recommend(asked, release.snapshot, clock.now)
    assert (made.release, made.now) == (release, clock.now)


def test_a_batch_is_answered_from_one_release(
    shop: Shop, promote: PromoteRelease, serving: Serving, clock: Clock
) -> None:
    """A promotion in the middle of a batch changes nothing for that batch."""
    before, _ = promote(shop.a)
    ticking = Ticking()

    def swap_midway() -> float:
        if serving.release is before:
            promote(shop.b)
        return ticking()

    asked = [Query(f"user-{n}", FOR_YOU, 10) for n in range(40)]
    made = Recommend(serving, clock, swap_midway)(asked, [1e9] * 40)
    assert serving.release is not before
    assert made.release is before
    assert made.answers == recommend(asked, before.snapshot, clock.now)


def test_a_deadline_that_has_passed_does_no_work_and_hurts_no_neighbour(
    shop: Shop, promote: PromoteRelease, serving: Serving, clock: Clock
) -> None:
    """The late query is DeadlinePassed; the others are answered in full."""
    promote(shop.a)
    made = Recommend(serving, clock, Ticking())(queries("user-1", "user-2", "user-3"), [200.0, 99.0, 200.0])
    assert isinstance(made.answers[1], DeadlinePassed)
    assert [causes(answer) for answer in good([made.answers[0], made.answers[2]])] == [[], []]


def test_a_hurried_query_is_answered_without_the_ranker_and_shortens_nobody_elses_answer(
    shop: Shop, promote: PromoteRelease, serving: Serving, clock: Clock
) -> None:
    """2 ms are enough for the sources and too few for the ranker; the neighbour with time has its ranker."""
    promote(shop.a)
    hurried, patient = good(Recommend(serving, clock, Ticking())(queries("user-1", "user-1"), [100.002, 200.0]).answers)
    assert causes(hurried) == [("deadline", "ranker")]
    assert len(hurried.items) == 10
    assert causes(patient) == []


def test_time_that_runs_out_on_the_way_shortens_the_answer(
    shop: Shop, promote: PromoteRelease, serving: Serving, clock: Clock
) -> None:
    """A clock that moves 8 ms with each look leaves no time for the later stages of a 20 ms query."""
    promote(shop.a)
    (answer,) = good(Recommend(serving, clock, Ticking(0.008))(queries("user-1"), [100.036]).answers)
    assert ("deadline", "ranker") in causes(answer)


def test_an_unknown_user_is_answered_with_what_is_trending(
    shop: Shop, promote: PromoteRelease, serving: Serving, clock: Clock
) -> None:
    """Nobody gets an empty page for being new."""
    promote(shop.a)
    (answer,) = good(Recommend(serving, clock, Ticking())(queries("nobody"), [200.0]).answers)
    assert causes(answer) == [("unknown_user", "user")]
    assert len(answer.items) == 10
    assert {reason.code for item in answer.items for reason in item.reasons} == {"trending"}


def test_a_ranker_that_fails_at_run_time_leaves_the_order_of_the_sources(
    tmp_path: Path, serving: Serving, clock: Clock
) -> None:
    """NaN from the ranker is a degradation with the reason; the items come in retrieval order."""
    world = make_world()
    object.__setattr__(world.parts, "ranker", picky_ranker())
    name = world.write(tmp_path / "picky").release_id
    PromoteRelease(ReleaseDirectory(tmp_path / "picky"), serving, clock)(name)
    clock.now = NOW + 3650 * 86_400.0
    (answer,) = good(Recommend(serving, clock, Ticking())(queries("user-1"), [200.0]).answers)
    assert causes(answer) == [("failed", "ranker")]
    assert "no number" in answer.degraded[0].detail
    unranked = make_world(ranked=False).snapshot()
    (by_sources,) = recommend(queries("user-1"), unranked, clock.now)
    assert [item.row for item in answer.items] == [item.row for item in by_sources.items]


def test_for_a_caller_who_left_no_work_is_done_from_then_on(
    promote: PromoteRelease, serving: Serving, clock: Clock, shop: Shop
) -> None:
    """Who leaves before a batch is computed is no part of it; when all have left, no stage of it is begun any more."""
    promote(shop.a)
    recommend = Recommend(serving, clock, Ticking(), together=2)
    asked = queries("user-1", "user-2", "user-3", "user-4")
    made = recommend(asked, [900.0] * 4, lambda place: place in (1, 2, 3))
    assert [isinstance(answer, DeadlinePassed) for answer in made.answers] == [False, True, True, True]
    assert good(made.answers[:1])[0].items
    looks = iter([False, False, *[True] * 100])
    made = recommend(queries("user-1", "user-2"), [900.0] * 2, lambda _: next(looks))
    for answer in good(made.answers):
        assert ("deadline", "ranker") in causes(answer)
        assert ("deadline", "ann") in causes(answer)
