import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.training.shop import END, as_events, make_events, write_catalogue
from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_core.model import Answer, Query
from tidings_core.ranked import Items, RankedItem
from tidings_core.recommend import retrieve
from tidings_core.subjects import resolve
from tidings_index_builder.catalogue import Catalogue, read_catalogue
from tidings_training.evaluate import Difference, Evaluation, evaluate, measure
from tidings_training.events import Events
from tidings_training.examples import make_examples, purchases_later
from tidings_training.ranker import export
from tidings_training.trainer import SERVING, Settings, Trainer

HOLDOUT = 28.0
SPLIT = END - HOLDOUT * DAY
SETTINGS = Settings(factors=16)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A catalogue of the generated shop."""
    return read_catalogue(write_catalogue(tmp_path_factory.mktemp("catalogue") / "c.parquet"))


def make_trainer(events: Events, catalogue: Catalogue | None, folder: Path) -> Trainer:
    """A trainer with few factors."""
    return Trainer(events, catalogue, folder, SETTINGS)


@pytest.fixture(scope="module")
def trainer(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A trainer on the shop with planted taste."""
    return make_trainer(make_events(), catalogue, tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def planted(trainer: Trainer) -> Evaluation:
    """Its evaluation."""
    return evaluate(trainer, END, HOLDOUT)


def difference(found: Evaluation, of: str, to: str, metric: str) -> Difference:
    """One difference out of an evaluation."""
    return next(d for d in found.differences if (d.of, d.to, d.metric) == (of, to, metric))


def answer(*rows: int) -> Answer:
    """An answer with these item rows."""
    return Answer(Items.of([RankedItem(row, 0.0, (), ()) for row in rows]))


def test_metrics_are_those_counted_by_hand() -> None:
    """Two of three purchases shown, at places 0 and 2: recall 2/3, NDCG (1 + 1/2) / (1 + 1/log2(3) + 1/2), a hit."""
    ((recall, ndcg, hit),) = measure([answer(5, 9, 7, 1)], [np.array([7, 5, 3], np.int32)])
    assert recall == pytest.approx(2 / 3)
    assert ndcg == pytest.approx(1.5 / (1 + 1 / np.log2(3) + 0.5))
    assert hit == 1.0


def test_metrics_count_unknown_items_as_missed_and_no_more_than_the_first() -> None:
    """An unknown purchase (-1) lowers recall; a hit after the last place that counts is none; no answer is no hit."""
    four = np.array([4], np.int32)
    assert measure([answer(4)], [np.array([4, -1], np.int32)])[0, 0] == 0.5
    assert measure([answer(1, 2, 4)], [four], at=2).tolist() == [[0.0, 0.0, 0.0]]
    assert measure([answer(), answer(4, 1)], [four, four]).tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_planted_taste_is_found(planted: Evaluation) -> None:
    """Where users of a group buy that group's items, for-you beats popularity and trending beyond doubt."""
    assert planted.evaluated > 100
    assert planted.ranker_lists > 50
    for rival in ("popularity", "trending"):
        for metric in ("recall", "ndcg", "hit_rate"):
            assert difference(planted, "for-you", rival, metric).low > 0
    assert planted.means["for-you"]["recall"] > 2 * planted.means["popularity"]["recall"]


def test_shuffled_purchases_are_no_better_than_popularity(catalogue: Catalogue, tmp_path: Path) -> None:
    """Where items were dealt out by chance nothing can be known, and the evaluation says so."""
    found = evaluate(make_trainer(make_events(shuffled=True), catalogue, tmp_path), END, HOLDOUT)
    gain = difference(found, "for-you", "popularity", "recall")
    assert gain.low < 0.0
    assert abs(gain.mean) < 0.05


def test_every_user_who_bought_is_accounted_for(trainer: Trainer, planted: Evaluation) -> None:
    """Buyers of the holdout are unknown, without new purchases, or evaluated, and the new purchases are all counted."""
    later = trainer.events.between(SPLIT, END)
    before = trainer.events.between(-np.inf, SPLIT)
    known, had = set(before.user_ids), set(zip(*ids(before), strict=True))
    new = {pair for pair in set(zip(*ids(later), strict=True)) - had if pair[0] in known}
    assert planted.buyers == len(later.user_ids)
    assert planted.unknown == len(set(later.user_ids) - known)
    assert planted.evaluated == len({user for user, _ in new})
    assert planted.nothing_new == planted.buyers - planted.unknown - planted.evaluated
    assert planted.purchases == len(new)
    assert planted.purchases_of_unknown_items == sum(item not in before.item_ids for _, item in new)


def ids(events: Events) -> tuple[list[str], list[str]]:
    """User and item ids of all events."""
    return [events.user_ids[user] for user in events.users], [events.item_ids[item] for item in events.items]


def test_what_happens_later_changes_nothing_that_was_learned(
    trainer: Trainer, catalogue: Catalogue, tmp_path: Path
) -> None:
    """Other events after the split give the same vectors, neighbours, statistics and ranker as of the split."""
    other = make_trainer(make_events(tail=7), catalogue, tmp_path)
    assert not np.array_equal(other.events.items, trainer.events.items)
    mine, theirs = trainer.model(SPLIT), other.model(SPLIT)
    assert mine is not None
    assert theirs is not None
    assert (mine.item_ids, mine.user_ids) == (theirs.item_ids, theirs.user_ids)
    for part in ("item_vectors", "user_vectors"):
        np.testing.assert_array_equal(getattr(mine, part), getattr(theirs, part))
    for part in ("neighbours", "statistics", "trending", "histories"):
        for field in dataclasses.fields(getattr(mine, part)):
            np.testing.assert_array_equal(
                getattr(getattr(mine, part), field.name), getattr(getattr(theirs, part), field.name)
            )
    ranked, again = trainer.ranker(SPLIT), other.ranker(SPLIT)
    assert ranked is not None
    assert again is not None
    assert export(ranked.network) == export(again.network)


def test_examples_are_the_candidates_of_serving_with_new_purchases_only(trainer: Trainer) -> None:
    """No candidate was bought before; what is marked as bought is what was bought later for the first time, only."""
    snapshot = trainer.snapshot(SPLIT)
    assert snapshot is not None
    assert snapshot.histories is not None
    later = trainer.events.between(SPLIT, END)
    labels = purchases_later(snapshot, later, SERVING)
    users = sorted(labels)
    subjects, _ = resolve([Query(user, SERVING) for user in users], SERVING, snapshot, SPLIT)
    rows = retrieve(subjects, SERVING, snapshot)[0].candidates.rows
    for user, candidates in zip(users, rows, strict=True):
        before = snapshot.histories[snapshot.users.find(user)].rows
        assert not np.isin(candidates[candidates >= 0], before).any()
        assert not np.isin(labels[user], before).any()
    examples = make_examples(snapshot, later, SERVING, SPLIT, limit=10_000)
    marked = sum(int(part.bought.sum()) for part in examples)
    expected = sum(int(np.isin(labels[user], row[row >= 0]).sum()) for user, row in zip(users, rows, strict=True))
    assert marked == expected > 100


def test_a_limit_on_examples_is_kept_and_repeats(trainer: Trainer) -> None:
    """Of more users than the limit, that many are taken, the same ones for the same seed."""
    snapshot = trainer.snapshot(SPLIT)
    assert snapshot is not None
    later = trainer.events.between(SPLIT, END)
    first, again = (make_examples(snapshot, later, SERVING, SPLIT, limit=20, seed=3) for _ in range(2))
    assert 0 < sum(len(part) for part in first) <= 20
    np.testing.assert_array_equal(first[0].candidate, again[0].candidate)


def test_where_items_may_be_bought_again_they_count(trainer: Trainer) -> None:
    """A serving config that shows what was bought before is measured on repeat purchases too."""
    snapshot = trainer.snapshot(SPLIT)
    assert snapshot is not None
    later = trainer.events.between(SPLIT, END)
    repeats = dataclasses.replace(SERVING, exclude_bought=False)
    every = purchases_later(snapshot, later, repeats)
    assert sum(map(len, every.values())) > sum(map(len, purchases_later(snapshot, later, SERVING).values()))


def test_nothing_to_compare_on_is_refused(tmp_path: Path) -> None:
    """A holdout with nothing before it, or in which nobody known bought anything new, is refused with a way out."""
    with pytest.raises(InvalidInput, match="hold fewer out with --holdout-days"):
        evaluate(make_trainer(make_events(users=20), None, tmp_path), END, 400.0)
    repeated = as_events(np.array([0, 1, 0]), np.array([0, 1, 0]), np.array([END - 90 * DAY, END - 80 * DAY, END]))
    with pytest.raises(InvalidInput, match="hold more out with --holdout-days"):
        evaluate(make_trainer(repeated, None, tmp_path), END, HOLDOUT)


def test_too_little_history_gives_no_ranker(tmp_path: Path) -> None:
    """With nothing before the windows there is no ranker, and retrieval is evaluated alone."""
    events = make_events(users=60)
    events = dataclasses.replace(events, times=END - (END - events.times) / 5)
    found = evaluate(make_trainer(events, None, tmp_path), END, HOLDOUT)
    assert found.ranker_lists == 0
    assert found.means["for-you"] == found.means["retrieval"]
