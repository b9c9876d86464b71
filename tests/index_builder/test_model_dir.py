"""A model directory is written whole or not at all, and read back as it was, whatever the order of its rows."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.index_builder.shop import embeddings, make_model, write_table
from tidings_core.errors import InvalidInput
from tidings_core.model import Neighbours
from tidings_core.release import FoldInInfo
from tidings_index_builder.embeddings import Embeddings, read_embeddings
from tidings_index_builder.model_dir import Model, read_model, write_model

MODEL = replace(make_model(*embeddings(40, 15, 4), ranker=b"any bytes"), fold_in=FoldInInfo(4.0, 0.5))


def assert_same(found: Model, expected: Model) -> None:
    """Compare every array and value of two models."""
    for field in fields(Model):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        elif hasattr(theirs, "__dataclass_fields__"):
            for part in fields(theirs):
                one, other = np.asarray(getattr(ours, part.name)), np.asarray(getattr(theirs, part.name))
                assert one.dtype == other.dtype, f"{field.name}.{part.name}"
                np.testing.assert_array_equal(one, other, err_msg=f"{field.name}.{part.name}")
        else:
            assert ours == theirs, field.name


def test_a_model_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Every vector, neighbour, count, history, the ranker and the lineage survive the way through the files."""
    write_model(tmp_path / "model", MODEL)
    assert_same(read_model(tmp_path / "model"), MODEL)


def test_the_order_of_rows_in_the_files_does_not_matter(tmp_path: Path) -> None:
    """Neighbours, popularity and histories are found by id, so a trainer may write them in any order."""
    write_model(tmp_path / "model", MODEL)
    for name in ("neighbours", "popularity", "histories"):
        path = tmp_path / "model" / f"{name}.parquet"
        table = pa.parquet.read_table(path)
        pa.parquet.write_table(table.take(np.random.default_rng(1).permutation(len(table))), path)
    assert_same(read_model(tmp_path / "model"), MODEL)


def test_what_a_trainer_leaves_out_is_unknown(tmp_path: Path) -> None:
    """Without neighbours, popularity, histories and ranker there is still a model of vectors."""
    folder = tmp_path / "model"
    write_model(folder, MODEL)
    for name in ("neighbours.parquet", "popularity.parquet", "histories.parquet", "ranker.onnx"):
        (folder / name).unlink()
    found = read_model(folder)
    assert found.neighbours.rows.shape == (40, 0)
    assert found.trending.rows.size == 0
    assert found.histories.offsets.tolist() == [0] * 16
    assert found.statistics.purchases.sum() == 0
    assert found.ranker is None


def test_writing_again_replaces_the_model_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A second fit takes the first one's place; no temporary name stays behind."""
    write_model(tmp_path / "model", MODEL)
    write_model(tmp_path / "model", replace(MODEL, ranker=None, lineage={"second": True}))
    assert read_model(tmp_path / "model").lineage == {"second": True}
    assert not (tmp_path / "model" / "ranker.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_model_as_it_was(tmp_path: Path) -> None:
    """When a file cannot be written whole, the model before stays, and nothing half-written lies about."""
    write_model(tmp_path / "model", MODEL)
    with small_files(1000), pytest.raises(OSError, match="File too large"):
        write_model(tmp_path / "model", replace(MODEL, lineage={"second": True}))
    assert_same(read_model(tmp_path / "model"), MODEL)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_further_files_are_written_with_the_model_or_not_at_all(tmp_path: Path) -> None:
    """They lie in the directory when it appears; one that cannot be written leaves the old model as it was."""
    folder = tmp_path / "model"
    write_model(folder, MODEL, {"proof.json": {"recall": 0.5}})
    assert json.loads((folder / "proof.json").read_text()) == {"recall": 0.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_model(folder, replace(MODEL, lineage={"second": True}), {"proof.json": {"recall": float("nan")}})
    assert_same(read_model(folder), MODEL)
    assert json.loads((folder / "proof.json").read_text()) == {"recall": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("items", [40, 39])
def test_a_model_that_is_replaced_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    """Two trainings are never mixed, whether their files would fit together or not."""
    folder = tmp_path / "model"
    write_model(folder, MODEL)

    def train_meanwhile(path: Path, field: str) -> Embeddings:
        found = read_embeddings(path, field=field)
        write_model(folder, make_model(*embeddings(items, 15, 4, seed=1)))
        return found

    with monkeypatch.context() as patched:
        patched.setattr("tidings_index_builder.model_dir.read_embeddings", train_meanwhile)
        with pytest.raises(InvalidInput, match=r"model was replaced while it was read: run again"):
            read_model(folder)
    assert len(read_model(folder).item_ids) == items


def test_a_directory_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    """A path given by mistake is refused, and what is in it stays."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("years")
    with pytest.raises(InvalidInput, match="is there and is no model directory"):
        write_model(tmp_path / "precious", MODEL)
    assert (tmp_path / "precious" / "work.txt").read_text() == "years"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"user_vectors": MODEL.user_vectors[:, :2]}, "users have as many dimensions as items"),
        ({"item_ids": MODEL.item_ids[:-1]}, "has 40 rows for 39 ids"),
        ({"neighbours": Neighbours(np.full((40, 1), 40, np.int32), np.zeros((40, 1), np.float32))}, "complement rows"),
        ({"neighbours": Neighbours(np.zeros((3, 1), np.int32), np.zeros((3, 1), np.float32))}, r"rows \[N, M\]"),
        ({"as_of": float("nan")}, "as_of is a number"),
        ({"fold_in": FoldInInfo(4.0, 0.0)}, "fold_in has an alpha and a regularization above 0"),
    ],
)
def test_a_model_that_does_not_fit_together_is_not_written(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    """Arrays that contradict each other are refused before anything is written."""
    with pytest.raises(InvalidInput, match=expected):
        write_model(tmp_path / "model", replace(MODEL, **change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("neighbours", {"item_id": ["item-0"]}, "has no column neighbour_ids, scores; it has item_id"),
        (
            "neighbours",
            {"item_id": ["item-0"], "neighbour_ids": [["item-1"]], "scores": [[0.5, 0.4]]},
            r"neighbour_ids and scores of 'item-0' \(row 0\) differ in length: 1 and 2",
        ),
        (
            "neighbours",
            {"item_id": ["item-0"], "neighbour_ids": [["gone"]], "scores": [[0.5]]},
            r"neighbour_ids of 'item-0' \(row 0\) names 'gone', which has no embedding",
        ),
        (
            "neighbours",
            {"item_id": ["item-0", "item-1"], "neighbour_ids": [["item-1"]] * 2, "scores": [[0.5], [float("nan")]]},
            r"scores of 'item-1' \(row 1\) is nan, must be finite",
        ),
        (
            "neighbours",
            {"item_id": ["item-0", "item-0"], "neighbour_ids": [["item-1"]] * 2, "scores": [[0.5]] * 2},
            "'item-0' repeat",
        ),
        (
            "neighbours",
            {"item_id": ["who"], "neighbour_ids": [["item-1"]], "scores": [[0.5]]},
            "'who' have no embedding",
        ),
        (
            "histories",
            {"user_id": ["user-3"], "item_ids": [["item-1", "item-2"]], "times": [[5, 9]], "counts": [[1.0, 1.0]]},
            "the history of 'user-3' is not newest first",
        ),
        (
            "histories",
            {"user_id": ["user-3"], "item_ids": [["item-1"]], "times": [["x"]], "counts": [[1.0]]},
            "column times is string, must be numbers",
        ),
        (
            "popularity",
            {
                **{name: [0.0] for name in ("purchases_7d", "purchases_30d", "purchases_90d", "buyers")},
                "item_id": ["item-2"],
                "purchases": [-3.0],
                "first_time": [None],
                "trending_score": [None],
            },
            r"purchases of 'item-2' \(row 0\) is -3, must be finite and at least 0",
        ),
    ],
)
def test_bad_content_is_refused_by_file_row_and_id(
    tmp_path: Path, name: str, columns: dict[str, Any], expected: str
) -> None:
    """Whoever wrote the files learns what is wrong, in which one and where."""
    write_model(tmp_path / "model", replace(MODEL, ranker=None))
    write_table(tmp_path / "model" / f"{name}.parquet", **columns)
    with pytest.raises(InvalidInput, match=expected) as refused:
        read_model(tmp_path / "model")
    assert f"{name}.parquet" in str(refused.value)


def test_a_ranker_for_another_feature_schema_is_refused(tmp_path: Path) -> None:
    """A ranker that was trained on other columns would score nonsense."""
    write_model(tmp_path / "model", MODEL)
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_hash": "0123"}))
    with pytest.raises(InvalidInput, match="trained for feature schema 0123, this version computes"):
        read_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot be read"),
        ("[]", r"has format \[\]"),
        ('{"format": 9}', "has format 9; this version reads format 1"),
        ('{"format": 1}', "as_of is None, must be a number"),
    ],
)
def test_a_broken_description_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    """A model.json that is torn, of another version or without its time is told."""
    write_model(tmp_path / "model", MODEL)
    (tmp_path / "model" / "model.json").write_text(text)
    with pytest.raises(InvalidInput, match=expected):
        read_model(tmp_path / "model")


@pytest.mark.parametrize(
    "given",
    ["als", [1.0, 2.0], {"alpha": 4.0}, {"alpha": "4", "regularization": 1.0}, {"alpha": 4, "regularization": 0}],
)
def test_constants_that_cannot_be_folded_in_with_are_refused(tmp_path: Path, given: object) -> None:
    """A fold_in that is not two numbers above 0 is told with what it is."""
    write_model(tmp_path / "model", MODEL)
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fold_in": given}))
    with pytest.raises(InvalidInput, match=r"model\.json: fold_in is .*must be"):
        read_model(tmp_path / "model")
