"""Folding back makes a release that answers as the old one with its changes did."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.core.test_delta import described, found, in_category, nearest, priced, vector
from tests.support.world import NOW, make_world
from tidings.v1 import item_pb2
from tidings_core.catalogue import Change, decode_change, encode_change
from tidings_core.delta import Delta, item_values, taken_in
from tidings_core.errors import InvalidInput
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.patched import patched
from tidings_core.recommend import recommend
from tidings_core.release import ChangesHeld, open_release
from tidings_index_builder.fold import fold, remove_folded

HELD = ChangesHeld("history", 7)


def shown(item_id: str, title: str, category: str, seed: int | None = None, **values: object) -> Change:
    """A change whose payload is a real encoded item."""
    from dataclasses import replace

    change = described(item_id, title, category, seed, number=1_900_000_000_000_000, **values)
    assert change.description is not None
    payload = item_pb2.Item(item_id=item_id, title=title, categories=[category]).SerializeToString()
    return replace(change, description=replace(change.description, payload=payload))


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 60 items."""
    path = tmp_path_factory.mktemp("fold") / "releases"
    make_world(items=60, users=12, dim=8, groups=4).write(path)
    return path


def changes(space: str) -> list[Change]:
    """New items, one described anew, prices alone, deletions; all in the release's space."""
    from dataclasses import replace

    made = [
        shown("new-1", "Zebra lamp", "zoo", 1, price=7.0),
        shown("new-2", "Group 2 thing", "group-2"),
        shown("new-gone", "Zebra", "zoo", 4),
        shown("item-5", "Purple teapot", "kitchen", 2),
        replace(
            priced("item-9", 4.0),
            payload=item_pb2.Item(
                item_id="item-9", title="Group 1 thing 9", categories=["group-1"], price=4.0
            ).SerializeToString(),
        ),
        Change("item-7", 1, 1, deleted=True),
    ]
    return [replace(change, space=space) for change in made]


def test_a_folded_release_answers_as_the_old_one_with_its_changes(releases: Path) -> None:
    """Ids, vectors, words, categories, attributes, prices and neighbours; what is deleted is gone for good."""
    (old,) = releases.iterdir()
    release = open_release(old)
    space = release.manifest.vector_space
    told = [*changes(space), Change("new-gone", 2, 2, deleted=True)]
    delta = taken_in(release.snapshot, Delta(), told[:-1], space)
    before = patched(release.snapshot, taken_in(release.snapshot, delta, told[-1:], space))
    manifest = fold(old, [*told[:2], *told[3:]], HELD, releases, NOW + 100)
    after = open_release(releases / manifest.release_id).snapshot
    assert (manifest.changes_held, manifest.vector_space, manifest.item_count) == (HELD, space, 61)
    assert manifest.index.key == release.manifest.index.key
    assert manifest.lineage["folded"]["from"] == old.name
    assert {after.items[row] for row in range(61)} == {
        *(f"item-{n}" for n in range(60) if n != 7),
        "new-1",
        "new-2",
    }
    for name in (after.items[row] for row in range(61)):
        was, now = before.items.find(name), after.items.find(name)
        assert np.allclose(before.item_vectors[was], after.item_vectors[now])
        assert np.allclose(before.item_features[was], after.item_features[now])
        assert before.payloads[was] == after.payloads[now]
        assert item_values(before, was)[0] == item_values(after, now)[0]
    for query in (vector(1), vector(2), vector(3)):
        assert nearest(before, query, 61)[0] == nearest(after, query, 61)[0]
    for word in ("zebra", "purple teapot", "group 1 thing 9"):
        assert found(before, word)[:1] == found(after, word)[:1]
    for category in ("zoo", "kitchen", "group-1", "group-2"):
        assert in_category(before, category) == in_category(after, category)
    for user in range(12):
        (one,), (two,) = (
            recommend([Query(f"user-{user}", SERVING_CONFIGS["for-you"], k=10)], snapshot, NOW)
            for snapshot in (before, after)
        )
        assert [before.items[i.row] for i in one.items][:5] == [after.items[i.row] for i in two.items][:5]


def test_a_release_folded_again_and_again_stays_whole(releases: Path) -> None:
    """Each fold starts from the last; old folded releases are removed, others never."""
    (old, *_) = sorted(releases.iterdir())
    current = old
    for turn in range(4):
        space = open_release(current).manifest.vector_space
        change = shown(f"turn-{turn}", f"Turn {turn}", "turns", turn)
        from dataclasses import replace

        current = (
            releases
            / fold(
                current, [replace(change, space=space)], ChangesHeld("h", turn), releases, NOW + 200 + turn
            ).release_id
        )
    snapshot = open_release(current).snapshot
    assert in_category(snapshot, "turns") == {f"turn-{turn}" for turn in range(4)}
    pruned, problem = remove_folded(releases, 1, {current.name})
    assert problem is None
    assert len(pruned) >= 3
    assert old.exists()
    assert current.exists()


def test_the_command_folds_a_file_of_changes(releases: Path, tmp_path: Path) -> None:
    """One line of JSON says what came of it; it needs nothing that the server has not."""
    (old, *_) = sorted(releases.iterdir())
    space = open_release(old).manifest.vector_space
    file = tmp_path / "changes"
    file.write_bytes(b"".join(map(encode_change, changes(space))))
    code = "import sys; sys.modules.update({m: None for m in ('pyarrow', 'matplotlib', 'onnx')}); "
    code += "from tidings_index_builder.fold_cli import main; main()"
    command = [sys.executable, "-c", code, str(old), "--changes", str(file), "--epoch", "e", "--through", "9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert (told["changes_held"], told["item_count"]) == ({"epoch": "e", "number": 9}, 62)
    assert told["folded"]["from"] == old.name
    assert len(done.stdout) < 1000  # A person reads it too.
    file.write_bytes(b"{}\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "line 1" in done.stderr


def test_a_fold_that_leaves_nothing_is_refused(releases: Path) -> None:
    """Nothing is left behind."""
    (old, *_) = sorted(releases.iterdir())
    there = {path.name for path in releases.iterdir()}
    with pytest.raises(InvalidInput, match="leave no item"):
        fold(old, [Change(f"item-{n}", 1, 1, deleted=True) for n in range(60)], HELD, releases, NOW + 300)
    assert {path.name for path in releases.iterdir()} == there


def test_changes_travel_between_processes_unchanged() -> None:
    """Whatever a change holds is there after it was written and read."""
    for change in changes("space"):
        assert decode_change(encode_change(change)) == change
    with pytest.raises(ValueError, match="no change"):
        decode_change(b"{}")


def test_users_are_left_out_with_all_that_is_known_of_them(releases: Path, tmp_path: Path) -> None:
    """Id, vector, history, and the vector among the queries that recall is measured on; everybody else stays."""
    import shutil

    (release_id,) = [one.name for one in releases.iterdir() if (one / "manifest.json").exists()][:1]
    shutil.copytree(releases / release_id, tmp_path / release_id)
    old = open_release(tmp_path / release_id)
    gone = [old.snapshot.users.find(user_id) for user_id in ("user-3", "user-8")]
    manifest = fold(tmp_path / release_id, [], HELD, tmp_path, NOW, without=["user-8", "user-3", "never-heard-of"])
    new = open_release(tmp_path / manifest.release_id)
    assert manifest.user_count == old.manifest.user_count - 2
    assert manifest.lineage["folded"]["users_left_out"] == 2
    for row in range(len(new.snapshot.users)):
        before = old.snapshot.users.find(new.snapshot.users[row])
        assert before >= 0
        np.testing.assert_array_equal(new.snapshot.user_vectors[row], old.snapshot.user_vectors[before])
        assert new.snapshot.histories is not None
        assert old.snapshot.histories is not None
        np.testing.assert_array_equal(new.snapshot.histories[row].rows, old.snapshot.histories[before].rows)
    content = b"".join(file.read_bytes() for file in new.path.iterdir())
    assert not [row for row in gone if old.snapshot.user_vectors[row].tobytes() in content]
    assert b"user-3" not in content
