"""Decision tokens say what was decided, and nobody else can make one."""

import base64
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.errors import InvalidInput
from tidings_core.model import SERVING_CONFIGS, Exploration, Query
from tidings_core.recommend import recommend
from tidings_server.application.decision_token import LIFE_DAYS, DecisionTokens

SNAPSHOT = make_world().snapshot()
EXPLORING = replace(SERVING_CONFIGS["for-you"], exploration=Exploration(30, 0.2))
TOKENS = DecisionTokens(b"k" * 32, map("answer/{}".format, itertools.count()).__next__)


def token(decision_id: str = "answer/7", tokens: DecisionTokens = TOKENS, seed: int | None = 1, k: int = 20) -> str:
    """The token of an answer."""
    (answer,) = recommend([Query("user-1", EXPLORING, k, seed=seed)], SNAPSHOT, NOW)
    return tokens.sign(tokens.begin("r1", "for-you", NOW), decision_id, answer.items, SNAPSHOT).decode()


def test_a_token_says_what_was_decided() -> None:
    """The decision, the release, the serving config, and the propensity of each item of the answer."""
    (answer,) = recommend([Query("user-1", EXPLORING, 500, seed=3)], SNAPSHOT, NOW)
    (small,) = recommend([Query("user-1", EXPLORING, 12, seed=3)], SNAPSHOT, NOW)
    for given_answer in (answer, small):
        signed = TOKENS.sign(TOKENS.begin("r1", "for-you", NOW), "answer/7", given_answer.items, SNAPSHOT).decode()
        found = TOKENS.read(signed, NOW)
        assert (found.decision_id, found.release_id, found.serving_config) == ("answer/7", "r1", "for-you")
        chances = given_answer.items.propensities
        assert chances is not None
        told = [found.propensity(SNAPSHOT.items[row]) for row in given_answer.items.rows.tolist()]
        np.testing.assert_allclose(told, chances, rtol=1e-6)
    assert small.items.propensities is not None
    assert 0.0 < small.items.propensities.min() < 1.0


def test_where_nothing_is_drawn_a_token_is_short_and_every_item_sure() -> None:
    """And a decision that nobody named gets a name of its own."""
    first, second = (TOKENS.read(token("", seed=None), NOW) for _ in range(2))
    assert first.decision_id.startswith("answer/")
    assert first.decision_id != second.decision_id
    assert first.propensity("item-1") == 1.0
    assert len(token(seed=None)) < 100 < len(token())


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_refused_by_name(data: st.DataObject) -> None:
    """One letter is enough."""
    good = token(k=5)
    at = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_"))
    changed = good[:at] + letter + good[at + 1 :]
    if base64.urlsafe_b64decode(changed + "=" * (-len(changed) % 4)) != base64.urlsafe_b64decode(
        good + "=" * (-len(good) % 4)
    ):
        with pytest.raises(InvalidInput) as refused:
            TOKENS.read(changed, NOW)
        assert refused.value.violations[0][0] == "decision_token"


@given(st.text(max_size=80))
def test_what_is_no_token_is_refused_by_name(text: str) -> None:
    """Whatever it is."""
    with pytest.raises(InvalidInput) as refused:
        TOKENS.read(text, NOW)
    assert refused.value.violations[0][0] == "decision_token"


def test_a_token_of_another_server_or_that_is_too_old_is_refused() -> None:
    """The one names what to do, the other how long tokens are good."""
    other = DecisionTokens(b"other" * 8, lambda: "x")
    with pytest.raises(InvalidInput, match="none of this server's"):
        TOKENS.read(token(tokens=other), NOW)
    assert TOKENS.read(token(), NOW + LIFE_DAYS * 86_400 - 1).decision_id == "answer/7"
    with pytest.raises(InvalidInput, match=f"within {LIFE_DAYS} days"):
        TOKENS.read(token(), NOW + LIFE_DAYS * 86_400 + 2)
