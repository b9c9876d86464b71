"""Served features beside those that were learned from: quiet when they are alike, loud once when they are not."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from tests.support.world import NOW, make_world
from tidings_core.drift import LOUD, NAMES, spreads_of
from tidings_core.features import CANDIDATE_FEATURES, USER_FEATURES
from tidings_core.model import Considered
from tidings_core.release import Release, open_release, write_release
from tidings_server.application.watch_features import ENOUGH, WINDOW, WatchFeatures

RNG = np.random.default_rng(5)
K = 20


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release whose ranker learned from features spread as `answer` spreads them."""
    parts = make_world(seed=1).parts
    user = RNG.normal(size=(4000, len(USER_FEATURES))).astype(np.float32)
    pair = RNG.normal(size=(4000, len(CANDIDATE_FEATURES))).astype(np.float32)
    parts = replace(parts, spreads=spreads_of(parts.item_features, user, pair))
    folder = tmp_path_factory.mktemp("releases")
    return open_release(folder / write_release(folder, parts, NOW).release_id)


def answer(release: Release, shift: float = 0.0, ranked: bool = True) -> Considered:
    """What was considered for an answer, with the first feature of the user moved."""
    user = RNG.normal(size=len(USER_FEATURES)).astype(np.float32)
    user[0] += shift
    nothing = np.zeros((K, 0), np.float32)
    return Considered(
        RNG.integers(0, len(release.snapshot.items), K).astype(np.int32),
        np.zeros(K, np.float32),
        (),
        nothing.astype(np.bool_),
        nothing,
        nothing.astype(np.int32),
        user,
        RNG.normal(size=(K, len(CANDIDATE_FEATURES))).astype(np.float32),
        (("scores", np.arange(K)),),
        ranked,
    )


def test_a_release_carries_how_features_were_spread_in_what_its_ranker_learned_from(release: Release) -> None:
    """All of them, also after it was opened again."""
    assert tuple(sorted(release.manifest.spreads)) == tuple(sorted(NAMES))
    assert all(abs(sum(spread.shares) - 1) < 1e-6 for spread in release.manifest.spreads.values())


def test_features_as_they_were_learned_are_quiet_and_one_that_moved_is_loud_once(release: Release) -> None:
    """Nothing is said before there is enough; then only the feature that moved is told of, and not again."""
    told: list[str] = []
    watch = WatchFeatures(lambda name, _: told.append(name))
    moved = f"user.{USER_FEATURES[0]}"
    for _ in range(ENOUGH - 1):
        watch.observe(answer(release), release)
    assert all(isnan(watch.drift(name)) for name in NAMES)
    for _ in range(2 * ENOUGH):
        watch.observe(answer(release), release)
    assert max(watch.drift(name) for name in NAMES) < LOUD
    assert told == []
    for _ in range(4 * ENOUGH):
        watch.observe(answer(release, 2.0), release)
    assert told == [moved]
    assert watch.drift(moved) > LOUD


def test_what_no_ranker_scored_and_releases_without_spreads_say_nothing(release: Release) -> None:
    """Nor does a name that is no feature."""
    watch = WatchFeatures()
    for _ in range(ENOUGH + 1):
        watch.observe(answer(release, 9.0, ranked=False), release)
    bare = replace(release, manifest=replace(release.manifest, release_id="other", spreads={}))
    for _ in range(ENOUGH + 1):
        watch.observe(answer(release, 9.0), bare)
    assert all(isnan(watch.drift(name)) for name in (*NAMES, "user.shoe_size"))


def test_another_release_begins_anew_and_old_answers_fade(release: Release) -> None:
    """What was served from another release is no measure of this one; what is long ago counts less and less."""
    watch = WatchFeatures(lambda *_: None)
    moved = f"user.{USER_FEATURES[0]}"
    for _ in range(ENOUGH):
        watch.observe(answer(release, 3.0), release)
    before = watch.drift(moved)
    other = replace(release, manifest=replace(release.manifest, release_id="other"))
    watch.observe(answer(release), other)
    assert isnan(watch.drift(moved))
    for _ in range(ENOUGH):
        watch.observe(answer(release, 3.0), release)
    for _ in range(WINDOW + WINDOW // 2):
        watch.observe(answer(release), release)
    assert watch.drift(moved) < before / 10
