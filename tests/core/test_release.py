"""The release format: written whole or not at all, refused with the reason when it is not what was written."""

import dataclasses
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.world import NOW, linear_ranker, make_world
from tidings_core import release
from tidings_core.attributes import KINDS, Keyword, Kind, attribute_of
from tidings_core.errors import InvalidInput, NotFound, ReleaseRefused
from tidings_core.events import Event, EventItem
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.person import view
from tidings_core.profile import EMPTY, fold
from tidings_core.recommend import recommend
from tidings_core.release import list_releases, open_release, write_release
from tidings_core.tables import BytesTable

WORLD = make_world()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good release, for copying."""
    releases = tmp_path_factory.mktemp("releases")
    return releases / WORLD.write(releases).release_id


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    """A copy of a good release to spoil."""
    return Path(shutil.copytree(good, tmp_path / good.name))


def test_a_release_answers_from_disk_as_from_memory(good: Path) -> None:
    """What is opened is what was written: the same answers, the same manifest."""
    opened = open_release(good)
    queries = [Query(f"user-{user}", SERVING_CONFIGS["for-you"], 10) for user in range(20)]
    assert recommend(queries, opened.snapshot, NOW) == recommend(queries, WORLD.snapshot(), NOW)
    assert (opened.manifest.item_count, opened.manifest.user_count, opened.manifest.dim) == (300, 60, 16)
    assert opened.manifest.sources == ("search", "recent", "complement", "similar", "tagged", "ann", "trending")
    assert opened.manifest.created_at == NOW


def test_attributes_of_every_kind_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Texts, tags, numbers, times and flags, and where an item has none, are the same from disk."""
    values: dict[Kind, list[Any]] = {
        "keyword": ["b", None, "a"],
        "tags": [("a", "b"), (), ("b",)],
        "number": [1.5, None, -2.0],
        "time": [NOW, None, 0.0],
        "flag": [True, None, False],
    }
    count = len(WORLD.parts.item_ids)
    attributes = {f"a-{kind}": attribute_of(kind, some * (count // 3)) for kind, some in values.items()}
    manifest = write_release(tmp_path, dataclasses.replace(WORLD.parts, attributes=attributes), NOW)
    assert manifest.attributes == {f"a-{kind}": kind for kind in KINDS}
    found = open_release(tmp_path / manifest.release_id).snapshot.attributes
    for kind, some in values.items():
        assert [found[f"a-{kind}"].at(row) for row in range(count)] == some * (count // 3)


def test_texts_of_an_attribute_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    """A filter finds a text by halving the table: one that is out of order would be missed."""
    count = len(WORLD.parts.item_ids)
    attributes = {"colour": Keyword(np.zeros(count, np.int32), BytesTable.of([b"b", b"a"]))}
    with pytest.raises(ReleaseRefused, match="holds texts that do not ascend"):
        write_release(tmp_path, dataclasses.replace(WORLD.parts, attributes=attributes), NOW)


def test_the_manifest_is_plain_json_and_names_every_file(good: Path) -> None:
    """Anyone can read what a release holds, and every byte of it is accounted for."""
    manifest = json.loads((good / "manifest.json").read_text())
    assert {path.name for path in good.iterdir()} == {"manifest.json", *manifest["files"]}
    assert manifest["statistics"]["log_price"]["max"] > manifest["statistics"]["log_price"]["mean"] > 0


def cut(path: Path) -> None:
    """Cut a file in the middle."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


SPOILS: tuple[Callable[[Path], None], ...] = (cut, flip, Path.unlink)


def test_every_file_is_guarded_against_every_kind_of_damage(good: Path, tmp_path: Path) -> None:
    """Cut, changed by one bit, or gone: whichever file it is, the release is refused and the file named."""
    for name in json.loads((good / "manifest.json").read_text())["files"]:
        for number, spoil in enumerate(SPOILS):
            if (good / name).stat().st_size == 0:
                continue
            folder = Path(shutil.copytree(good, tmp_path / str(number) / good.name))
            spoil(folder / name)
            with pytest.raises(ReleaseRefused, match=name.replace(".", r"\.")):
                open_release(folder)
            shutil.rmtree(folder)


def seal(folder: Path, changes: dict[str, Any]) -> None:
    """Change fields of the manifest and give it the checksum of the new ones, as a forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    (folder / "manifest.json").write_text(release._seal(manifest | changes))


def edit(**changes: object) -> Callable[[Path], None]:
    """Change fields of the manifest, checksum and all."""
    return lambda folder: seal(folder, changes)


def forge(folder: Path, file: str) -> None:
    """Give a changed file the checksum of its new content."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    seal(folder, {"files": files | {file: dataclasses.asdict(release._describe(folder / file))}})


def retype(folder: Path) -> None:
    """Change one figure of the manifest and nothing else."""
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"recall": 1.0', '"recall": 0.5'))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "not a finished release"),
        (lambda folder: cut(folder / "manifest.json"), "not a JSON object"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "not a JSON object"),
        (retype, "has been changed"),
        (edit(format=99), "format 99"),
        (edit(format=None), "format None"),
        (edit(item_count="many"), "item_count"),
        (edit(metric="hamming"), "metric"),
        (edit(schema_hash="0" * 16), "feature schema"),
        (edit(release_id="20200101T000000Z-00000000"), "renamed"),
        (edit(item_count=299), "must be"),
        (edit(dim=8), "item_vectors.npy is"),
        (edit(metric="l2"), "compares by"),
        (edit(files={"../../etc/passwd": {"bytes": 1, "sha256": "0"}}), "not a plain name"),
        (edit(files={}), "not in its manifest"),
        (edit(attributes={"colour": "keyword"}), "attribute.colour"),
        (edit(attributes={"category": "shade"}), "attributes.category: Input should be"),
        (edit(attributes={"category": "flag"}), "attribute.category.flags.npy is not in its manifest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_the_reason(
    copy: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    """Half-written, foreign, edited or mismatched: refused, never guessed at."""
    spoil(copy)
    with pytest.raises(ReleaseRefused, match=reason):
        open_release(copy)


def test_a_release_that_answers_its_golden_queries_otherwise_is_refused(copy: Path) -> None:
    """Even with correct checksums, an index of other vectors does not pass."""
    other = make_world(seed=5)
    other.parts.index.write(copy / "index.faiss")
    forge(copy, "index.faiss")
    with pytest.raises(ReleaseRefused, match="golden"):
        open_release(copy)


def test_rows_that_point_outside_are_refused(copy: Path) -> None:
    """A neighbour that is not there would be a crash at the worst moment; it is one refusal at load."""
    rows = np.load(copy / "neighbours.rows.npy")
    rows[0, 1] = 300
    np.save(copy / "neighbours.rows.npy", rows)
    forge(copy, "neighbours.rows.npy")
    with pytest.raises(ReleaseRefused, match="points outside"):
        open_release(copy)


def test_an_unknown_release_is_not_found(tmp_path: Path) -> None:
    """A name that is not there is NotFound, not a refusal."""
    with pytest.raises(NotFound, match="no-such"):
        open_release(tmp_path / "no-such")


def test_a_release_whose_ranker_does_not_fit_is_never_written(tmp_path: Path) -> None:
    """The builder finds out, not the server: nothing is left in the directory."""
    parts = dataclasses.replace(WORLD.parts, ranker=b"no model")
    with pytest.raises(InvalidInput, match="ranker"):
        write_release(tmp_path, parts, NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a write fails half way the error is told and no directory, finished or not, remains."""
    saved = np.save
    calls = []

    def full(path: Path, array: NDArray[Any], **_: object) -> None:
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(path, array)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        WORLD.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_builder_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    """The lock tells them apart; neither is ever listed."""
    dead, living = tmp_path / f"{release.UNFINISHED}1-0", tmp_path / f"{release.UNFINISHED}2-0"
    for folder in (dead, living):
        folder.mkdir()
        (folder / "item_vectors.npy").write_bytes(b"half")
    handle = os.open(living, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        manifest = WORLD.write(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {living.name, manifest.release_id}
        assert list_releases(tmp_path) == [manifest]
    finally:
        os.close(handle)


def test_releases_are_listed_newest_first_and_broken_ones_say_so(tmp_path: Path) -> None:
    """An operator sees everything that lies there, with its problem if it has one."""
    old, new = WORLD.write(tmp_path, NOW), WORLD.write(tmp_path, NOW + 60)
    (tmp_path / "leftover").mkdir()
    listed = list_releases(tmp_path)
    assert isinstance(listed[0], ReleaseRefused)
    assert listed[0].release_id == "leftover"
    assert listed[1:] == [new, old]
    with pytest.raises(NotFound):
        list_releases(tmp_path / "nowhere")


def test_a_release_is_opened_through_a_link_and_a_relative_path(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is that of the directory itself, however one gets there."""
    (tmp_path / "current").symlink_to(good)
    assert open_release(tmp_path / "current").manifest.release_id == good.name
    monkeypatch.chdir(good)
    assert open_release(Path()).manifest.release_id == good.name


def test_the_same_content_built_in_the_same_second_is_not_written_over(tmp_path: Path) -> None:
    """A release is never replaced in place."""
    WORLD.write(tmp_path)
    with pytest.raises(ReleaseRefused, match="already there"):
        WORLD.write(tmp_path)
    assert len(list_releases(tmp_path)) == 1


def test_a_ranker_that_scores_otherwise_than_when_built_is_refused(copy: Path) -> None:
    """Swapping the model of a release, checksum and all, does not pass its golden candidates."""
    (copy / "ranker.onnx").write_bytes(linear_ranker({"log_price": 1.0}, {}, {}))
    forge(copy, "ranker.onnx")
    with pytest.raises(ReleaseRefused, match="ranker scores"):
        open_release(copy)


def change(name: str, make: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Path], None]:
    """Change an array of a release and give it the checksum of what it holds now."""

    def spoil(folder: Path) -> None:
        np.save(folder / f"{name}.npy", make(np.load(folder / f"{name}.npy")))
        forge(folder, f"{name}.npy")

    return spoil


def put(at: int, value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Set one value of an array."""

    def make(array: NDArray[Any]) -> NDArray[Any]:
        array.flat[at] = value
        return array

    return make


@pytest.mark.parametrize("name", ["words", "categories"])
@pytest.mark.parametrize(
    ("file", "make", "reason"),
    [
        ("items", put(0, 300), "points outside"),
        ("items", put(0, -1), "points outside"),
        ("starts", put(1, 10**9), "does not fit"),
        ("starts", put(0, 1), "does not fit"),
        ("starts", lambda array: array[:-1], "must be"),
        ("weights", lambda array: array[:-1], "must be"),
        ("rows", put(0, 10**6), "points outside"),
        ("offsets", put(1, 10**9), "does not fit"),
        ("hashes", lambda array: array[:-1], "must be"),
    ],
)
def test_words_that_point_outside_are_refused(
    copy: Path, name: str, file: str, make: Callable[[NDArray[Any]], NDArray[Any]], reason: str
) -> None:
    """Postings are checked like every other table: shapes, bounds, offsets that only grow."""
    change(f"{name}.{file}", make)(copy)
    with pytest.raises(ReleaseRefused, match=reason) as refused:
        open_release(copy)
    assert f"{name}." in str(refused.value)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change("fold_in.gram", lambda gram: gram[:-1]), "fold_in.gram.npy is"),
        (change("fold_in.gram", put(0, np.nan)), "finite"),
        (edit(fold_in={"alpha": 4.0, "regularization": 0.0}), "above 0"),
        (edit(fold_in={"alpha": 4.0}), "fold_in.regularization"),
        (edit(trained_until="yesterday"), "trained_until"),
    ],
)
def test_constants_that_cannot_be_folded_in_with_are_refused(
    copy: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    """A stranger's vector would be no number at the worst moment; it is one refusal at load."""
    spoil(copy)
    with pytest.raises(ReleaseRefused, match=reason):
        open_release(copy)


def test_words_categories_and_constants_come_back_as_they_were_written(good: Path) -> None:
    """A person gets the same vector and the same hits from disk as from memory; a bare release has neither."""
    opened, memory = open_release(good).snapshot, WORLD.snapshot()
    assert (opened.trained_until, opened.user_norm) == (memory.trained_until, memory.user_norm)
    assert opened.fold_in is not None
    assert memory.fold_in is not None
    np.testing.assert_array_equal(opened.fold_in.gram, memory.fold_in.gram)
    assert (opened.fold_in.alpha, opened.fold_in.regularization) == (4.0, 1.0)
    look = Event("e1", "view", "u", int(NOW * 1000), (EventItem("item-4"),))
    profile = fold(EMPTY, [(look, [4])])
    rows = np.arange(300, dtype=np.int32)
    for serving, more in (("for-you", {}), ("search", {"search": "group 3"}), ("browse", {"category": "group-3"})):
        answers = [
            recommend(
                [Query("u", SERVING_CONFIGS[serving], person=view(profile, rows, snapshot, -1), **more)],  # type: ignore[arg-type]
                snapshot,
                NOW,
            )[0]
            for snapshot in (opened, memory)
        ]
        assert answers[0] == answers[1]
        assert answers[0].items


def test_a_bare_release_has_no_words_and_no_constants(tmp_path: Path) -> None:
    """What nobody gave is not there."""
    manifest = make_world(bare=True).write(tmp_path)
    snapshot = open_release(tmp_path / manifest.release_id).snapshot
    assert (snapshot.words, snapshot.categories, snapshot.fold_in, snapshot.trained_until) == (None, None, None, 0.0)
    assert (manifest.sources, manifest.fold_in) == (("recent", "ann"), None)
    assert snapshot.user_norm == pytest.approx(np.median(np.linalg.norm(snapshot.user_vectors, axis=1)))
