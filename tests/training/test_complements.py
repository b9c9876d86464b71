"""What is bought together: significance, not counts, and no substitutes."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.shop import as_events
from tidings_core.model import Neighbours
from tidings_training import complements
from tidings_training.complements import find_complements, log_likelihood_ratio
from tidings_training.events import Events


def orders(*baskets: tuple[int, list[int]]) -> Events:
    """Orders of (user, items), each at a time of its own."""
    lines = [(user, item, 1000.0 * time) for time, (user, items) in enumerate(baskets) for item in items]
    who, what, when = zip(*lines, strict=True)
    return as_events(np.array(who), np.array(what), np.array(when))


def pairs(found: Neighbours) -> dict[tuple[int, int], float]:
    """Every pair found with its score."""
    return {
        (item, int(other)): float(score)
        for item, (rows, scores) in enumerate(zip(found.rows, found.scores, strict=True))
        for other, score in zip(rows, scores, strict=True)
        if other >= 0
    }


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60), st.integers(0, 200))
def test_the_ratio_is_g_squared_of_the_table(first: int, second: int, both: int, rest: int) -> None:
    """As SciPy's log-likelihood test of the same 2 x 2 table says."""
    both = min(both, first, second)
    total = first + second - both + rest
    if first == total or second == total:
        return
    table = [[both, first - both], [second - both, rest]]
    expected = scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    got = log_likelihood_ratio(np.array([both * 1.0]), np.array([first * 1.0]), np.array([second * 1.0]), total)
    assert got[0] == pytest.approx(expected, abs=1e-6)


def test_what_everybody_buys_goes_with_nothing() -> None:
    """Item 0 is in every order and shares more orders with item 1 than item 2 does; still only 2 goes with 1."""
    baskets = [(n, [0, 1, 2] if n % 4 == 0 else [0, 1 + n % 2 * 2 + 2]) for n in range(40)]
    found = pairs(find_complements(orders(*baskets)))
    assert (1, 2) in found
    assert not [pair for pair in found if 0 in pair]


def test_every_pair_is_found_that_a_plain_count_finds_significant() -> None:
    """Brute force over all pairs of random orders, block by block or at once."""
    rng = np.random.default_rng(0)
    baskets = [
        (int(rng.integers(0, 40)), np.unique(np.r_[rng.integers(0, 12, 2), int(n % 3) * 4 + np.arange(2)]).tolist())
        for n in range(150)
    ]
    events = orders(*baskets)
    held = [{f"i{item:04}" for item in items} for _, items in baskets]
    expected: dict[tuple[int, int], float] = {}
    for one, other in itertools.permutations(range(len(events.item_ids)), 2):
        a, b = events.item_ids[one], events.item_ids[other]
        having, with_b = [a in basket for basket in held], [b in basket for basket in held]
        both = sum(x and y for x, y in zip(having, with_b, strict=True))
        first, second = sum(having), sum(with_b)
        buyers = {user for (user, _), x in zip(baskets, having, strict=True) if x} & {
            user for (user, _), y in zip(baskets, with_b, strict=True) if y
        }
        table = [[both, first - both], [second - both, 150 - first - second + both]]
        if both * 150 <= first * second or len(buyers) < 2:
            continue
        ratio = scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        if ratio >= complements.SIGNIFICANT:
            expected[one, other] = ratio / np.sqrt(first)
    assert len(expected) >= 6
    assert pairs(find_complements(events)) == pytest.approx(expected, rel=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting a few items at a time gives what counting all at once gives."""
    rng = np.random.default_rng(1)
    events = orders(*[(n % 30, (rng.integers(0, 3) * 5 + rng.choice(5, 3, False)).tolist()) for n in range(120)])
    whole = find_complements(events)
    monkeypatch.setattr(complements, "BLOCK", 2)
    parts = find_complements(events)
    assert len(pairs(whole)) > 20
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.scores, parts.scores)


def test_best_first_padded_and_limited() -> None:
    """Scores fall, no item goes with itself, and the rest is -1 with score 0."""
    rng = np.random.default_rng(2)
    events = orders(*[(n % 30, (rng.integers(0, 3) * 8 + rng.choice(8, 4, False)).tolist()) for n in range(200)])
    found = find_complements(events, limit=3)
    assert found.rows.shape[1] == 3
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert not (found.rows == np.arange(len(found.rows))[:, None]).any()
    assert ((found.rows < 0) == (found.scores == 0)).all()


def test_one_customers_standing_order_goes_with_nothing() -> None:
    """Fifty orders of the same two things by one user say nothing of others; of two users they do."""
    others = [(100 + n, [10 + n % 7]) for n in range(100)]
    alone = [(1, [0, 1]) for _ in range(50)]
    assert (0, 1) not in pairs(find_complements(orders(*alone, *others)))
    assert (0, 1) in pairs(find_complements(orders(*alone, (2, [0, 1]), *others)))


def test_what_replaces_each_other_is_no_complement() -> None:
    """Two teas of one category that people buy now this, now that, in turn: left out, unless of two categories."""
    # Twenty people have bought both, most in different orders; six orders hold both, more than chance would.
    apart = [(user, [item]) for user in range(14) for item in (0, 1)]
    joined = [(20 + n, [0, 1]) for n in range(6)]
    others = [(100 + n, [5 + n % 9]) for n in range(400)]
    events = orders(*apart, *joined, *others)
    assert (0, 1) in pairs(find_complements(events))
    different = np.arange(len(events.item_ids), dtype=np.int32)
    assert (0, 1) in pairs(find_complements(events, different))
    assert (0, 1) not in pairs(find_complements(events, np.zeros(len(events.item_ids), np.int32)))
    none = np.full(len(events.item_ids), -1, np.int32)
    assert (0, 1) in pairs(find_complements(events, none))


def test_colours_bought_in_one_order_are_complements() -> None:
    """Of one category, but in the same basket again and again: cup and saucer."""
    events = orders(*[(n, [0, 1]) for n in range(10)], *[(50 + n, [2 + n % 5]) for n in range(50)])
    assert (0, 1) in pairs(find_complements(events, np.zeros(len(events.item_ids), np.int32)))


def test_a_huge_order_counts_for_nothing() -> None:
    """Two orders of everything there is tell nothing of any pair, and are not counted."""
    size = complements.LARGEST_BASKET + 1
    events = orders((1, list(range(size))), (2, list(range(size))), *[(3 + n, [n]) for n in range(20)])
    assert pairs(find_complements(events)) == {}


def test_views_are_in_no_order() -> None:
    """Looking at two things at one time is not buying them together."""
    bought = orders(*[(n, [0, 1]) for n in range(10)], *[(50 + n, [2 + n % 5]) for n in range(50)])
    looked = Events(
        bought.user_ids,
        bought.item_ids,
        bought.users,
        bought.items,
        bought.times,
        bought.weights,
        np.zeros(len(bought), np.bool_),
    )
    assert pairs(find_complements(looked)) == {}
