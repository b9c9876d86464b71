"""Promote, roll back, list: one release answers, a failed step changes nothing, and a restart remembers."""

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.server.conftest import Clock, Shop
from tidings_core.delta import Delta
from tidings_core.errors import Conflict, InvalidInput, NotFound, ReleaseRefused, TidingsError
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.release import Release
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.fold_back import FoldRules
from tidings_server.application.list_releases import ListReleases
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.recommend import Recommend
from tidings_server.application.rollback_release import RollbackRelease
from tidings_server.application.serving import MAX_EARLIER, Record, Serving


@pytest.fixture
def promote(directory: ReleaseDirectory, serving: Serving, clock: Clock) -> PromoteRelease:
    """Promotes into `serving`."""
    return PromoteRelease(directory, serving, clock)


@pytest.fixture
def rollback(directory: ReleaseDirectory, serving: Serving, clock: Clock) -> RollbackRelease:
    """Rolls `serving` back."""
    return RollbackRelease(directory, serving, clock)


def name(result: tuple[Release, str]) -> tuple[str, str]:
    """The ids in what a promotion or rollback returns."""
    return result[0].manifest.release_id, result[1]


def test_promotion_serves_and_names_the_one_before(shop: Shop, promote: PromoteRelease, serving: Serving) -> None:
    """The first has none before it; the second has the first."""
    assert name(promote(shop.a)) == (shop.a, "")
    assert name(promote(shop.b)) == (shop.b, shop.a)
    assert serving.release is not None
    assert serving.release.manifest.release_id == shop.b


def test_promoting_the_serving_release_changes_nothing(shop: Shop, promote: PromoteRelease, serving: Serving) -> None:
    """A retry after a lost answer gets the same answer, and the release is not opened again."""
    promote(shop.a)
    first = promote(shop.b)
    record = serving.record
    again = promote(shop.b)
    assert again[0] is first[0]
    assert again[1] == first[1]
    assert serving.record is record


def test_rollback_goes_back_one_release_a_call(shop: Shop, promote: PromoteRelease, rollback: RollbackRelease) -> None:
    """After A, B, C come B, then A, then nothing."""
    for release_id in (shop.a, shop.b, shop.c):
        promote(release_id)
    assert name(rollback()) == (shop.b, shop.c)
    assert name(rollback()) == (shop.a, shop.b)
    with pytest.raises(Conflict, match=f"before {shop.a}"):
        rollback()


def test_a_promotion_after_a_rollback_continues_from_there(
    shop: Shop, promote: PromoteRelease, rollback: RollbackRelease
) -> None:
    """A, B, back to A, then C: before C was A."""
    promote(shop.a)
    promote(shop.b)
    rollback()
    assert name(promote(shop.c)) == (shop.c, shop.a)
    assert name(rollback()) == (shop.a, shop.c)


def test_rollback_from_another_release_than_the_serving_one_does_nothing(
    shop: Shop, promote: PromoteRelease, rollback: RollbackRelease, serving: Serving
) -> None:
    """The guard makes a repeated rollback harmless."""
    promote(shop.a)
    promote(shop.b)
    assert name(rollback(shop.b)) == (shop.a, shop.b)
    with pytest.raises(Conflict, match="is serving: nothing done"):
        rollback(shop.b)
    assert serving.record.serving == shop.a


def test_rollback_with_nothing_promoted_is_refused(rollback: RollbackRelease) -> None:
    """There is nothing to leave."""
    with pytest.raises(Conflict, match="no release is promoted"):
        rollback()


def truncate(folder: Path) -> None:
    """Cut the index short."""
    file = folder / "index.faiss"
    file.write_bytes(file.read_bytes()[:-100])


def edit(folder: Path) -> None:
    """Change one byte of the vectors."""
    file = folder / "item_vectors.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def half_write(folder: Path) -> None:
    """Leave it as a writer that died before the manifest would."""
    (folder / "manifest.json").unlink()


def make_foreign(folder: Path) -> None:
    """Put something else entirely in its place."""
    (folder / "manifest.json").write_text('{"name": "a package"}')


def lose_a_file(folder: Path) -> None:
    """Remove the ranker."""
    (folder / "ranker.onnx").unlink()


def empty(folder: Path) -> None:
    """Leave nothing in it."""
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("spoil", [truncate, edit, half_write, make_foreign, lose_a_file, empty])
def test_a_spoilt_release_is_refused_and_the_old_one_serves_on(
    shop: Shop,
    promote: PromoteRelease,
    rollback: RollbackRelease,
    serving: Serving,
    tmp_path: Path,
    spoil: Callable[[Path], None],
) -> None:
    """A refusal has a reason and changes neither what answers nor what is on disk."""
    old, _ = promote(shop.a)
    written = (tmp_path / "state" / "serving.json").read_bytes()
    spoil(shop.path / shop.b)
    with pytest.raises(ReleaseRefused, match=shop.b):
        promote(shop.b)
    assert serving.release is old
    assert (tmp_path / "state" / "serving.json").read_bytes() == written


def test_a_renamed_release_is_refused(shop: Shop, promote: PromoteRelease) -> None:
    """A directory must bear the name its manifest has."""
    (shop.path / shop.b).rename(shop.path / "20300101T000000Z-renamed")
    with pytest.raises(ReleaseRefused, match="renamed"):
        promote("20300101T000000Z-renamed")


def test_a_rollback_to_a_spoilt_release_is_refused(
    shop: Shop, promote: PromoteRelease, rollback: RollbackRelease, serving: Serving
) -> None:
    """Rolling back validates as promoting does."""
    promote(shop.a)
    promote(shop.b)
    truncate(shop.path / shop.a)
    with pytest.raises(ReleaseRefused):
        rollback()
    assert serving.record.serving == shop.b


def test_a_promotion_that_cannot_be_kept_is_not_made(
    shop: Shop, promote: PromoteRelease, serving: Serving, tmp_path: Path
) -> None:
    """What would be forgotten at a crash does not answer."""
    old, _ = promote(shop.a)
    (tmp_path / "state" / "serving.json.unfinished").mkdir()
    with pytest.raises(Conflict, match="cannot be written"):
        promote(shop.b)
    assert serving.release is old
    assert serving.record.serving == shop.a


def test_a_restart_serves_what_was_promoted(
    shop: Shop, promote: PromoteRelease, rollback: RollbackRelease, directory: ReleaseDirectory, state: StateDirectory
) -> None:
    """The record outlives the process, earlier releases included."""
    for release_id in (shop.a, shop.b, shop.c):
        promote(release_id)
    rollback()
    restarted = Serving(state)
    restarted.resume(directory, lambda *_: pytest.fail("nothing is refused"))
    assert restarted.release is not None
    assert restarted.record.serving == shop.b
    assert restarted.record.earlier == (shop.a,)


def test_a_restart_falls_back_to_the_newest_release_that_can_be_opened(
    shop: Shop, promote: PromoteRelease, directory: ReleaseDirectory, state: StateDirectory
) -> None:
    """Each refused one is reported; once mended it serves again."""
    for release_id in (shop.a, shop.b, shop.c):
        promote(release_id)
    whole = (shop.path / shop.c / "index.faiss").read_bytes()
    truncate(shop.path / shop.c)
    shutil.rmtree(shop.path / shop.b)
    refused: dict[str, type[Exception]] = {}
    restarted = Serving(state)
    restarted.resume(directory, lambda release_id, error: refused.update({release_id: type(error)}))
    assert refused == {shop.c: ReleaseRefused, shop.b: NotFound}
    assert restarted.record.serving == shop.a
    (shop.path / shop.c / "index.faiss").write_bytes(whole)
    mended = Serving(state)
    mended.resume(directory, lambda *_: pytest.fail("nothing is refused"))
    assert mended.record.serving == shop.c


def test_a_restart_with_no_release_left_serves_none_and_can_be_promoted(
    shop: Shop, promote: PromoteRelease, directory: ReleaseDirectory, state: StateDirectory, clock: Clock
) -> None:
    """The server starts all the same, and the next promotion works."""
    promote(shop.a)
    half_write(shop.path / shop.a)
    restarted = Serving(state)
    restarted.resume(directory, lambda *_: None)
    assert restarted.release is None
    assert name(PromoteRelease(directory, restarted, clock)(shop.b)) == (shop.b, shop.a)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "earlier": 7}'])
def test_a_damaged_record_is_refused_with_the_way_out(state: StateDirectory, content: bytes) -> None:
    """The server does not guess what was promoted."""
    state.write("serving.json", content)
    with pytest.raises(InvalidInput, match=r"serving\.json is damaged .* remove it"):
        Serving(state)


def test_two_promotions_at_once_come_one_after_the_other(
    shop: Shop, promote: PromoteRelease, serving: Serving, tmp_path: Path
) -> None:
    """However they meet, the record is that of some order of them."""
    results: list[str] = []

    def promoted(release_id: str) -> None:
        results.append(name(promote(release_id))[0])

    threads = [threading.Thread(target=promoted, args=(release_id,)) for release_id in (shop.a, shop.b, shop.c)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted([shop.a, shop.b, shop.c])
    assert sorted((*serving.record.earlier, serving.record.serving)) == sorted(results)
    assert serving.release is not None
    assert serving.release.manifest.release_id == serving.record.serving


def test_the_old_release_is_freed_once_nothing_uses_it(
    shop: Shop, promote: PromoteRelease, rollback: RollbackRelease, serving: Serving, clock: Clock
) -> None:
    """After a swap, vectors and index of the old release are gone as soon as its last answer is."""
    promote(shop.a)
    recommend = Recommend(serving, clock, lambda: 0.0)
    made = recommend([Query("user-1", SERVING_CONFIGS["for-you"])], [1.0])
    assert made.release is not None
    parts: list[weakref.ref[object]] = [
        weakref.ref(made.release.snapshot.user_vectors),
        weakref.ref(made.release.snapshot.index),
    ]
    promote(shop.b)
    gc.collect()
    assert all(part() is not None for part in parts)
    del made
    gc.collect()
    assert [part() for part in parts] == [None, None]


def test_releases_are_listed_with_what_they_do(
    shop: Shop, promote: PromoteRelease, directory: ReleaseDirectory, serving: Serving, clock: Clock
) -> None:
    """Newest first: one serves, one did, one is broken."""
    listing = ListReleases(directory, serving)
    clock.now = 5000.0
    promote(shop.a)
    clock.now = 6000.0
    promote(shop.b)
    half_write(shop.path / shop.c)
    listed = listing()
    assert [(entry.release.release_id, entry.serving, entry.promote_time) for entry in listed] == [
        (shop.c, False, None),
        (shop.b, True, 6000.0),
        (shop.a, False, 5000.0),
    ]
    assert isinstance(listed[0].release, ReleaseRefused)


def test_a_rollback_is_a_promotion_for_the_time(
    shop: Shop, promote: PromoteRelease, rollback: RollbackRelease, serving: Serving, clock: Clock
) -> None:
    """The promote time of a release is when it last began to answer."""
    promote(shop.a)
    promote(shop.b)
    clock.now += 500.0
    rollback()
    assert serving.record.promote_times[shop.a] == clock.now


def test_the_record_stays_small(clock: Clock) -> None:
    """Years of daily promotions do not grow it without bound."""
    record = Record()
    for day in range(3000):
        record = record.promoted(f"release-{day}", float(day))
    assert len(record.earlier) == MAX_EARLIER
    assert record.earlier[-1] == "release-2998"
    assert len(record.promote_times) == 1000
    assert "release-2999" in record.promote_times


def test_every_refusal_is_one_of_ours(directory: ReleaseDirectory, promote: PromoteRelease) -> None:
    """No name a caller can send raises anything but a TidingsError."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        release_id = bytes(rng.integers(0, 256, int(rng.integers(0, 200)), np.uint8)).decode("latin-1")
        with pytest.raises(TidingsError):
            promote(release_id)


def test_what_somebody_went_back_to_is_not_folded(shop: Shop, directory: ReleaseDirectory, clock: Clock) -> None:
    """A rollback stands, however much changed since: the release that was left may have come of a fold."""
    opened = directory.open(shop.a)
    much = replace(opened.snapshot, delta=Delta(described=np.ones(30, np.bool_)))
    release, rules = replace(opened, snapshot=much), FoldRules(True, 30, 0.0)
    record = Record().promoted(shop.a, clock.now)
    assert rules.due(release, record)
    record = record.promoted(shop.b, clock.now).rolled_back(clock.now)
    assert not rules.due(release, record)
    assert rules.due(release, record.promoted(shop.c, clock.now))
