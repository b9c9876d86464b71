"""A build joins what it is given by id into a release that opens, and leaves nothing behind when it fails."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.index_builder.rankers import plain_mlp
from tests.index_builder.shop import NOW, embeddings, make_model, write_table
from tests.index_builder.test_model_dir import small_files
from tests.index_builder.test_tune import plain_recall
from tests.support.world import BY_VECTOR, linear_ranker
from tidings.v1 import item_pb2
from tidings_core.errors import InvalidInput
from tidings_core.features import ITEM_FEATURES, SCHEMA_HASH
from tidings_core.model import METRICS, SERVING_CONFIGS, Metric, Query, Snapshot
from tidings_core.recommend import recommend
from tidings_core.release import FoldInInfo, open_release
from tidings_core.text import category_items, search
from tidings_index_builder.align import align_model
from tidings_index_builder.build import build_release
from tidings_index_builder.catalogue import read_catalogue
from tidings_index_builder.embeddings import Embeddings
from tidings_index_builder.ranker_wrap import WIDTH

ITEMS, USERS = embeddings()
MODEL = make_model(ITEMS, USERS)


def build(releases: Path, **given: Any) -> tuple[Any, Snapshot]:
    """Build without a report, and open what was built as the server would."""
    defaults: dict[str, Any] = {"items": ITEMS, "users": USERS, "metric": "inner_product", "now": NOW, "report": False}
    manifest = build_release(releases=releases, **(defaults | given))
    release = open_release(releases / manifest.release_id)
    assert release.manifest == manifest
    return manifest, release.snapshot


@pytest.mark.parametrize("metric", METRICS)
def test_embeddings_alone_make_a_release(tmp_path: Path, metric: Metric) -> None:
    """Every trainer's vectors can be served at once: nearest items, no more."""
    manifest, snapshot = build(tmp_path, metric=metric, k=10)
    assert manifest.sources == ("recent", "ann")
    assert not manifest.ranked
    assert manifest.schema_hash == SCHEMA_HASH
    assert [snapshot.items[row] for row in range(3)] == ["item-0", "item-1", "item-2"]
    assert item_pb2.Item.FromString(snapshot.payloads[5]) == item_pb2.Item(item_id="item-5")
    assert (snapshot.item_features[:, ITEM_FEATURES.index("log_price")] == 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_the_recall_in_the_manifest_can_be_computed_again_from_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Metric
) -> None:
    """With the vectors and queries in the release, plain NumPy gives the manifest's recall to the last digit."""
    monkeypatch.setattr("tidings_index_builder.candidates.IVF_FROM", 1000)
    items, users = embeddings(1500, 200)
    manifest, snapshot = build(tmp_path, items=items, users=users, metric=metric, k=25, recall_target=0.85)
    queries = np.load(tmp_path / manifest.release_id / "recall_queries.npy")
    assert len(queries) == manifest.index.recall_queries
    found = snapshot.index.search(queries, manifest.index.recall_k)[0]
    again = plain_recall(snapshot.item_vectors, queries, found, manifest.index.recall_k, metric)
    assert manifest.index.recall == pytest.approx(again, abs=1e-12)
    assert manifest.index.recall >= manifest.index.recall_target == 0.85


def test_a_model_brings_neighbours_trends_histories_and_features(tmp_path: Path) -> None:
    """All that a trainer learned stands in the release, in the order of the release's own rows."""
    manifest, snapshot = build(tmp_path, model=MODEL)
    assert manifest.sources == ("recent", "complement", "similar", "ann", "trending")
    assert snapshot.neighbours is not None
    np.testing.assert_array_equal(snapshot.neighbours.rows, MODEL.neighbours.rows)
    assert snapshot.trending is not None
    np.testing.assert_array_equal(snapshot.trending.rows, MODEL.trending.rows)
    assert snapshot.histories is not None
    np.testing.assert_array_equal(snapshot.histories.offsets, MODEL.histories.offsets)
    bought = ITEM_FEATURES.index("log_purchases")
    np.testing.assert_allclose(snapshot.item_features[:, bought], np.log1p(MODEL.statistics.purchases), rtol=1e-6)
    assert manifest.lineage["build"]["model"] == {
        "as_of": MODEL.as_of,
        "items_known": 300,
        "users_known": 80,
        "lineage": {"trainer": "test"},
    }


def test_a_model_is_found_by_id_when_items_and_users_are_others(tmp_path: Path) -> None:
    """Embeddings in another order, without some of the model's ids and with some new ones, keep what is theirs."""
    rng = np.random.default_rng(5)
    kept = rng.permutation(300)[:200]
    items = Embeddings(
        [f"item-{row}" for row in kept] + ["new"], np.vstack([ITEMS.vectors[kept], ITEMS.vectors[:1] + 1])
    )
    people = rng.permutation(80)[:50]
    users = Embeddings(
        ["stranger"] + [f"user-{row}" for row in people], np.vstack([USERS.vectors[:1], USERS.vectors[people]])
    )
    learned = align_model(MODEL, items.ids, users.ids)
    assert learned.neighbours is not None
    assert learned.trending is not None
    assert learned.histories is not None
    served = set(items.ids)
    for row, name in enumerate(items.ids[:-1]):
        source = int(name.removeprefix("item-"))
        near = [
            (MODEL.item_ids[at], score)
            for at, score in zip(MODEL.neighbours.rows[source], MODEL.neighbours.scores[source], strict=True)
            if at >= 0 and MODEL.item_ids[at] in served
        ]
        found = learned.neighbours
        ours = [(items.ids[at], score) for at, score in zip(found.rows[row], found.scores[row], strict=True) if at >= 0]
        assert ours == near
        assert (found.rows[row, len(near) :] == -1).all()
        assert learned.statistics.purchases[row] == MODEL.statistics.purchases[source]
    assert (learned.neighbours.rows[-1] == -1).all()
    assert learned.statistics.purchases[-1] == 0
    assert [items.ids[row] for row in learned.trending.rows] == [
        MODEL.item_ids[row] for row in MODEL.trending.rows if MODEL.item_ids[row] in served
    ]
    for row, name in enumerate(users.ids):
        past = learned.histories[row]
        expected = [] if name == "stranger" else _bought(int(name.removeprefix("user-")), served)
        assert [(items.ids[at], when) for at, when in zip(past.rows, past.times, strict=True)] == expected
    assert (learned.items_known, learned.users_known) == (200, 50)


def _bought(user: int, served: set[str]) -> list[tuple[str, int]]:
    past = MODEL.histories[user]
    return [
        (MODEL.item_ids[row], when)
        for row, when in zip(past.rows, past.times, strict=True)
        if MODEL.item_ids[row] in served
    ]


def test_a_model_that_knows_none_of_the_items_offers_nothing(tmp_path: Path) -> None:
    """What is empty is not offered, and the manifest says how many ids were known."""
    strangers = Embeddings([f"other-{row}" for row in range(300)], ITEMS.vectors)
    manifest, _ = build(tmp_path, items=strangers, model=MODEL)
    assert manifest.sources == ("recent", "ann")
    assert manifest.lineage["build"]["model"]["items_known"] == 0


def test_a_catalogue_is_found_by_id_and_what_does_not_meet_is_counted(tmp_path: Path) -> None:
    """Titles, prices and attributes reach the items they belong to; the others are told, not guessed."""
    path = write_table(
        tmp_path / "c.parquet",
        id=["item-7", "gone", "item-2"],
        title=["Seven", "Gone", "Two"],
        price=[7.5, 1.0, None],
        categories=[["Home", "Light"], ["Toys"], ["Home"]],
        colour=["red", "blue", None],
    )
    manifest, snapshot = build(tmp_path / "out", catalogue=read_catalogue(path, ("colour",)))
    assert manifest.attributes == {
        "category": "keyword",
        "categories": "tags",
        "price": "number",
        "colour": "keyword",
    }
    assert item_pb2.Item.FromString(snapshot.payloads[7]).title == "Seven"
    assert item_pb2.Item.FromString(snapshot.payloads[2]).title == "Two"
    assert item_pb2.Item.FromString(snapshot.payloads[0]) == item_pb2.Item(item_id="item-0")
    log_price = snapshot.item_features[:, ITEM_FEATURES.index("log_price")]
    assert log_price[[7, 0, 2]].tolist() == pytest.approx([np.log1p(7.5), 0.0, 0.0])
    assert [snapshot.attributes["category"].at(row) for row in (7, 2, 0)] == ["Light", "Home", None]
    assert [snapshot.attributes["categories"].at(row) for row in (7, 2, 0)] == [("Home", "Light"), ("Home",), ()]
    assert [snapshot.attributes["price"].at(row) for row in (7, 2, 0)] == [7.5, None, None]
    assert snapshot.item_features[7, ITEM_FEATURES.index("log_price")] == pytest.approx(np.log1p(7.5))
    facts = manifest.lineage["build"]["catalogue"]
    assert (facts["rows"], facts["rows_without_embedding"], facts["items_without_row"]) == (3, 1, 298)


def test_a_plain_ranker_ranks_in_the_release(tmp_path: Path) -> None:
    """A wrapped model scores the candidates of a real answer."""
    manifest, snapshot = build(tmp_path, model=MODEL, ranker=plain_mlp(WIDTH))
    assert manifest.ranked
    answer = recommend([Query("user-3", SERVING_CONFIGS["for-you"], 5)], snapshot, NOW)[0]
    assert len(answer.items) == 5
    assert not answer.degraded


def test_a_given_ranker_goes_before_the_models(tmp_path: Path) -> None:
    """The model's ranker is used unless another is named."""
    own, other = linear_ranker({}, {}, BY_VECTOR), linear_ranker({}, {}, {"similar_score": 1.0})
    model = replace(MODEL, ranker=own)
    taken = [
        (
            tmp_path / build(tmp_path, model=model, ranker=ranker, now=NOW + at)[0].release_id / "ranker.onnx"
        ).read_bytes()
        for at, ranker in enumerate((None, other))
    ]
    assert taken == [own, other]


def test_the_caller_s_lineage_is_kept(tmp_path: Path) -> None:
    """What a trainer says of itself stands beside what the builder found."""
    manifest, _ = build(tmp_path, lineage={"run": 7})
    assert manifest.lineage["run"] == 7
    assert {trial["key"] for trial in manifest.lineage["build"]["tuning"]["trials"]} >= {"Flat", "SQfp16"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"users": Embeddings(USERS.ids, USERS.vectors[:, :8])}, "users have 8 dimensions, items 16"),
        ({"items": Embeddings(ITEMS.ids[:-1], ITEMS.vectors)}, "items: the embeddings has 300 rows for 299 ids"),
        ({"items": Embeddings(["x"] * 300, ITEMS.vectors)}, "items: .* 'x' repeat"),
        ({"metric": "manhattan"}, "metric: is 'manhattan', should be 'inner_product', 'cosine' or 'l2'"),
        ({"recall_target": 0.0}, "recall_target: is 0.0, should be greater than 0"),
        ({"recall_target": 1.01}, "recall_target: is 1.01, should be less than or equal to 1"),
        ({"recall_target": float("nan")}, "recall_target: is nan"),
        ({"k": 0}, "k: is 0, should be greater than or equal to 1"),
        ({"seed": -1}, "seed: is -1"),
        ({"ranker": plain_mlp(4)}, f"has 4 columns, must have {WIDTH}"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    """Each fault is named with its limit before anything touches the disk."""
    with pytest.raises(InvalidInput, match=expected):
        build(tmp_path / "releases", **change)
    assert not (tmp_path / "releases").exists()


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """One run names every setting and every file that must be put right."""
    with pytest.raises(InvalidInput) as refused:
        build(
            tmp_path,
            metric="x",
            k=0,
            items=Embeddings([], ITEMS.vectors),
            users=Embeddings(USERS.ids, USERS.vectors * np.nan),
        )
    assert [field for field, _ in refused.value.violations] == ["metric", "k", "items", "users"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """When a file cannot be written whole, there is no release, no half of one, and the one before still opens."""
    manifest, _ = build(tmp_path)
    # The smaller limit stops the index when it is weighed, the larger one the vectors when they are written.
    for limit in (15_000, 19_300):
        with small_files(limit), pytest.raises(OSError):  # noqa: PT011 - NumPy and FAISS word it each in their way
            build(tmp_path, now=NOW + 60)
    assert [path.name for path in tmp_path.iterdir()] == [manifest.release_id]
    open_release(tmp_path / manifest.release_id)


def test_a_catalogue_brings_words_and_categories(tmp_path: Path) -> None:
    """What is served is found by title, description, brand and every category on its path, titles counting most."""
    path = write_table(
        tmp_path / "c.parquet",
        id=["item-7", "gone", "item-2", "item-9"],
        title=["Red watches", "Red watch", "Strap", "手机壳"],
        description=["", "", "for a watch", None],
        brand=["Acme", "Acme", None, None],
        categories=[["Jewellery", "Watches"], ["Jewellery"], ["Jewellery", "Straps"], []],
    )
    manifest, snapshot = build(tmp_path, catalogue=read_catalogue(path), model=MODEL)
    assert manifest.sources == ("search", "recent", "complement", "similar", "tagged", "ann", "trending")
    assert snapshot.words is not None
    assert snapshot.categories is not None

    def found(query: str) -> list[str]:
        assert snapshot.words is not None
        return [snapshot.items[row] for row in search(query, snapshot.words, 9)[0].tolist()]

    assert found("WATCH") == ["item-7", "item-2"]
    assert found("acme") == ["item-7"]
    assert found("机") == ["item-9"]
    assert sorted(found("jewellery")) == ["item-2", "item-7"]
    # Most popular first.
    bought = MODEL.statistics.purchases
    expected = sorted([7, 2], key=lambda row: (-bought[row], row))
    assert category_items("jewellery", snapshot.categories, 9).tolist() == expected
    assert category_items("Straps", snapshot.categories, 9).tolist() == [2]
    bare, _ = build(tmp_path, catalogue=read_catalogue(path), searchable=False)
    assert bare.sources == ("recent", "ann")


def test_the_constants_of_als_go_with_the_vectors_they_belong_to(tmp_path: Path) -> None:
    """The model's own vectors are folded in, all or some of them; others, or shortened ones, are not."""
    model = replace(MODEL, fold_in=FoldInInfo(3.0, 0.25))
    manifest, snapshot = build(tmp_path, model=model)
    assert manifest.fold_in == FoldInInfo(3.0, 0.25)
    assert manifest.trained_until == snapshot.trained_until == MODEL.as_of
    assert snapshot.fold_in is not None
    vectors = ITEMS.vectors.astype(np.float64)
    np.testing.assert_allclose(snapshot.fold_in.gram, vectors.T @ vectors)
    some = Embeddings(ITEMS.ids[:200], ITEMS.vectors[:200])
    _, of_some = build(tmp_path, model=model, items=some)
    assert of_some.fold_in is not None
    np.testing.assert_allclose(of_some.fold_in.gram, vectors[:200].T @ vectors[:200])
    others: list[dict[str, Any]] = [
        {"model": MODEL},
        {"metric": "cosine"},
        {"items": Embeddings(ITEMS.ids, ITEMS.vectors + np.float32(0.01))},
        {"items": Embeddings([*ITEMS.ids[:-1], "new"], ITEMS.vectors)},
    ]
    for given in others:
        assert build(tmp_path, **({"model": model} | given))[1].fold_in is None
