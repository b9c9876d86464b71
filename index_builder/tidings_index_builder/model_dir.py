"""The model directory: what a trainer writes and the builder reads.

Plain Parquet files, so that any trainer can write them; rows are found by id, so their order does not matter.

    items.parquet, users.parquet    id, embedding (fixed_size_list<float32>)
    neighbours.parquet              item_id, neighbour_ids (list, best first), scores (list<float32>)
    complements.parquet             the same of what is bought together with an item, as complement_ids
    popularity.parquet              item_id, purchases, purchases_7d, purchases_30d, purchases_90d, buyers, first_time
                                    (Unix seconds or null), trending_score (null: not trending)
    histories.parquet               user_id, item_ids (list, newest first), times (list, Unix seconds), counts (list)
    ranker.onnx, encoder.onnx       optional
    model.json                      format, as_of (Unix seconds), schema_hash (with a ranker), lineage, and fold_in
                                    {alpha, regularization} when implicit's ALS made the embeddings; with a ranker
                                    also spreads, of the features it learned from

neighbours, complements, popularity and histories may be left out: then nothing is known of them. Without fold_in the
vector of somebody new is the mean of what they like.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tidings_core.drift import Spread
from tidings_core.errors import InvalidInput
from tidings_core.features import DAY, SCHEMA_HASH, ItemStatistics
from tidings_core.model import Histories, Neighbours, Trending
from tidings_core.release import FoldInInfo
from tidings_core.tables import Float32
from tidings_index_builder.embeddings import Embeddings, check_embeddings, read_embeddings
from tidings_index_builder.ids import check_ids, id_column, named, rows_of
from tidings_index_builder.table_files import read_table, readable, require_columns

FORMAT = 1
MODEL_FILE = "model.json"
RANKER_FILE = "ranker.onnx"
ENCODER_FILE = "encoder.onnx"
COUNTS = ("purchases", "purchases_7d", "purchases_30d", "purchases_90d", "buyers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What was learned from events up to `as_of` (Unix seconds).

    item_vectors f32[N, D] and user_vectors f32[U, D] belong to item_ids and user_ids; rows in `neighbours`,
    `complements`, `statistics`, `trending` and `histories` count along those. `ranker` is an ONNX model; `lineage` fits
    JSON; `fold_in` the constants that implicit's ALS learned the vectors with, None when something else did; `encoder`
    an ONNX model that makes vectors in their space of what somebody did last, see `tidings_core.encoder`; `spreads` how
    the features were spread that the ranker learned from, see `tidings_core.drift`.
    """

    item_ids: list[str]
    item_vectors: Float32
    user_ids: list[str]
    user_vectors: Float32
    neighbours: Neighbours
    complements: Neighbours
    statistics: ItemStatistics
    trending: Trending
    histories: Histories
    as_of: float
    ranker: bytes | None
    lineage: dict[str, Any]
    fold_in: FoldInInfo | None = None
    encoder: bytes | None = None
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def items(self) -> Embeddings:
        """Item embeddings."""
        return Embeddings(self.item_ids, self.item_vectors)

    @property
    def users(self) -> Embeddings:
        """User embeddings."""
        return Embeddings(self.user_ids, self.user_vectors)


def write_model(folder: Path, model: Model, more: Mapping[str, Any] | None = None) -> None:
    """Write a model directory whole, in place of one that is there.

    `more` maps the names of further files in it to what they hold as JSON. All is written under a temporary name beside
    `folder`, flushed to disk and renamed, so there is never half a model.
    Raises InvalidInput for a model that does not fit together, or when `folder` holds something else than a model;
    OSError when the disk is full. Then `folder` is as it was.
    """
    check_embeddings(model.items, str(folder), "items")
    check_embeddings(model.users, str(folder), "users")
    _check_shapes(model)
    if folder.exists() and not (folder / MODEL_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(("model", f"{folder} is there and is no model directory; name another one"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        _write_files(fresh, model)
        for name, value in (more or {}).items():
            _write_json(fresh / name, value)
        for path in (*fresh.iterdir(), fresh):
            _flush(path)
        if folder.exists():
            os.rename(folder, old)
        os.rename(fresh, folder)
        _flush(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_model(folder: Path) -> Model:
    """Read a model directory.

    Raises InvalidInput naming the file and what is wrong in it, or saying that another model took the directory's place
    meanwhile: its files would not go with those already read.
    """
    with readable(folder, "model"):
        # Held open, so that no other directory can be given its number.
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _read_files(folder)
    finally:
        # Goes before any fault found: of files that do not go together there are many.
        _close_and_compare(handle, folder)


def _close_and_compare(handle: int, folder: Path) -> None:
    """Close the handle of a directory. Raises InvalidInput when another one stands in its place."""
    try:
        with readable(folder, "model"):
            there = folder.stat()
        if not os.path.samestat(os.fstat(handle), there):
            raise InvalidInput(("model", f"{folder} was replaced while it was read: run again"))
    finally:
        os.close(handle)


def _read_files(folder: Path) -> Model:
    about = _read_about(folder)
    items = read_embeddings(folder / "items.parquet", field="model items")
    users = read_embeddings(folder / "users.parquet", field="model users")
    if items.vectors.shape[1] != users.vectors.shape[1]:
        raise InvalidInput(
            ("model", f"{folder}: items have {items.vectors.shape[1]} dimensions, users {users.vectors.shape[1]}")
        )
    statistics, trending = _read_popularity(folder / "popularity.parquet", items.ids, about["as_of"])
    ranker, encoder = folder / RANKER_FILE, folder / ENCODER_FILE
    if ranker.is_file() and about.get("schema_hash") != SCHEMA_HASH:
        raise InvalidInput(
            (
                "model",
                f"{folder / MODEL_FILE}: the ranker was trained for feature schema {about.get('schema_hash')}, "
                f"this version computes {SCHEMA_HASH}: train it again",
            )
        )
    return Model(
        item_ids=items.ids,
        item_vectors=items.vectors,
        user_ids=users.ids,
        user_vectors=users.vectors,
        neighbours=_read_neighbours(folder / "neighbours.parquet", "neighbour_ids", items.ids),
        complements=_read_neighbours(folder / "complements.parquet", "complement_ids", items.ids),
        statistics=statistics,
        trending=trending,
        histories=_read_histories(folder / "histories.parquet", users.ids, items.ids),
        as_of=about["as_of"],
        ranker=ranker.read_bytes() if ranker.is_file() else None,
        lineage=about["lineage"],
        fold_in=_read_fold_in(about.get("fold_in"), folder / MODEL_FILE),
        encoder=encoder.read_bytes() if encoder.is_file() else None,
        spreads=_read_spreads(about.get("spreads", {}), folder / MODEL_FILE),
    )


def _check_shapes(model: Model) -> None:
    items, users = len(model.item_ids), len(model.user_ids)
    statistics = [getattr(model.statistics, name) for name in (*COUNTS, "age_days")]
    past = model.histories
    entries = int(past.offsets[-1]) if len(past.offsets) else -1
    rules = {
        "users have as many dimensions as items": model.user_vectors.shape[1] == model.item_vectors.shape[1],
        "statistics hold one number per item": all(np.shape(column) == (items,) for column in statistics),
        "neighbours and complements are rows [N, M] and scores [N, M]": all(
            near.rows.ndim == 2 and len(near.rows) == items and near.scores.shape == near.rows.shape
            for near in (model.neighbours, model.complements)
        ),
        "neighbour and complement rows are -1 or a row of an item": all(
            _within(near.rows, -1, items) for near in (model.neighbours, model.complements)
        ),
        "trending is rows [T] and scores [T]": model.trending.rows.shape == model.trending.scores.shape,
        "trending rows are rows of items": _within(model.trending.rows, 0, items),
        "histories have one offset per user and one more": past.offsets.shape == (users + 1,),
        "histories are rows, times and counts of one length": {len(past.rows), len(past.times), len(past.counts)}
        == {entries},
        "history rows are rows of items": _within(past.rows, 0, items),
        "as_of is a number of seconds": math.isfinite(model.as_of),
        "fold_in has an alpha and a regularization above 0": model.fold_in is None
        or all(0 < value < math.inf for value in (model.fold_in.alpha, model.fold_in.regularization)),
    }
    broken = [("model", f"a model must be so that {rule}") for rule, kept in rules.items() if not kept]
    if broken:
        raise InvalidInput(*broken)


def _within(rows: NDArray[np.int32], low: int, count: int) -> bool:
    return rows.size == 0 or (int(rows.min()) >= low and int(rows.max()) < count)


def _write_files(folder: Path, model: Model) -> None:
    items, users = pa.array(model.item_ids, pa.string()), pa.array(model.user_ids, pa.string())
    for name, ids, vectors in (("items", items, model.item_vectors), ("users", users, model.user_vectors)):
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        _write(folder / f"{name}.parquet", id=ids, embedding=pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    _write_neighbours(folder / "neighbours.parquet", "neighbour_ids", model.neighbours, items)
    _write_neighbours(folder / "complements.parquet", "complement_ids", model.complements, items)
    trending = np.full(len(model.item_ids), np.nan)
    trending[model.trending.rows] = model.trending.scores
    first = np.rint(model.as_of - model.statistics.age_days * DAY)
    _write(
        folder / "popularity.parquet",
        item_id=items,
        **{name: pa.array(getattr(model.statistics, name), pa.float64()) for name in COUNTS},
        first_time=pa.array(np.where(np.isfinite(first), first, 0).astype(np.int64), mask=~np.isfinite(first)),
        trending_score=pa.array(trending.astype(np.float32), mask=np.isnan(trending)),
    )
    past = model.histories
    _write(
        folder / "histories.parquet",
        user_id=users,
        item_ids=_lists(past.offsets, items.take(pa.array(past.rows))),
        times=_lists(past.offsets, pa.array(past.times, pa.int64())),
        counts=_lists(past.offsets, pa.array(past.counts, pa.float32())),
    )
    if model.ranker is not None:
        (folder / RANKER_FILE).write_bytes(model.ranker)
    if model.encoder is not None:
        (folder / ENCODER_FILE).write_bytes(model.encoder)
    about: dict[str, Any] = {"format": FORMAT, "as_of": model.as_of, "schema_hash": SCHEMA_HASH}
    if model.fold_in is not None:
        about["fold_in"] = asdict(model.fold_in)
    if model.spreads:
        about["spreads"] = {name: asdict(spread) for name, spread in model.spreads.items()}
    about["lineage"] = model.lineage
    _write_json(folder / MODEL_FILE, about)


def _write_neighbours(path: Path, name: str, near: Neighbours, items: Any) -> None:
    kept = near.rows >= 0
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    columns = {name: _lists(offsets, items.take(pa.array(near.rows[kept])))}
    _write(path, item_id=items, **columns, scores=_lists(offsets, pa.array(near.scores[kept], pa.float32())))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def _write(path: Path, **columns: Any) -> None:
    pa.parquet.write_table(pa.table(columns), path)


def _lists(offsets: NDArray[Any], values: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / MODEL_FILE
    with readable(path, "model"):
        about = json.loads(path.read_bytes())
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise InvalidInput(("model", f"{path} has format {found!r}; this version reads format {FORMAT}"))
    as_of, lineage = about.get("as_of"), about.setdefault("lineage", {})
    if isinstance(as_of, bool) or not isinstance(as_of, int | float) or not math.isfinite(as_of):
        raise InvalidInput(("model", f"{path}: as_of is {as_of!r}, must be a number of Unix seconds"))
    if not isinstance(lineage, dict):
        raise InvalidInput(("model", f"{path}: lineage must be an object"))
    return about


def _read_fold_in(given: Any, path: Path) -> FoldInInfo | None:
    if given is None:
        return None
    try:
        constants = TypeAdapter(FoldInInfo).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        must = "must be {alpha, regularization}, both numbers"
        raise InvalidInput(("model", f"{path}: fold_in is {given!r:.80}, {must}")) from error
    if not all(0 < value < math.inf for value in (constants.alpha, constants.regularization)):
        raise InvalidInput(("model", f"{path}: fold_in is {given!r:.80}, both must be above 0"))
    return constants


def _read_spreads(given: Any, path: Path) -> dict[str, Spread]:
    try:
        return TypeAdapter(dict[str, Spread]).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(("model", f"{path}: spreads.{where}: {first['msg']}")) from error


def _read_popularity(path: Path, items: list[str], as_of: float) -> tuple[ItemStatistics, Trending]:
    if not path.exists():
        return ItemStatistics.unknown(len(items)), Trending(np.empty(0, np.int32), np.empty(0, np.float32))
    table = _Columns(path, "model popularity", "item_id", (*COUNTS, "first_time", "trending_score"))
    rows = table.rows(items)
    counts = {}
    for name in COUNTS:
        counts[name] = np.zeros(len(items))
        counts[name][rows] = table.numbers(name, 0.0)
    first = np.full(len(items), np.nan)
    first[rows] = table.numbers("first_time", -np.inf)
    scores = np.full(len(items), np.nan)
    scores[rows] = table.numbers("trending_score", -np.inf)
    order = np.argsort(-scores, kind="stable")[: int(np.isfinite(scores).sum())]
    statistics = ItemStatistics(**counts, age_days=(as_of - first) / DAY)
    return statistics, Trending(order.astype(np.int32), scores[order].astype(np.float32))


def _read_neighbours(path: Path, name: str, items: list[str]) -> Neighbours:
    if not path.exists():
        return Neighbours(np.empty((len(items), 0), np.int32), np.empty((len(items), 0), np.float32))
    table = _Columns(path, f"model {path.stem}", "item_id", (name, "scores"))
    rows, lengths = table.rows(items), table.lengths((name, "scores"))
    shape = (len(items), int(lengths.max(initial=0)))
    # Where entry j of list i goes: row of the item, place j.
    at = (np.repeat(rows, lengths), np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths))
    neighbours = Neighbours(np.full(shape, -1, np.int32), np.zeros(shape, np.float32))
    neighbours.rows[at] = table.list_rows(name, items)
    neighbours.scores[at] = table.list_numbers("scores", -np.inf)
    return neighbours


def _read_histories(path: Path, users: list[str], items: list[str]) -> Histories:
    if not path.exists():
        nothing = np.empty(0, np.int32)
        return Histories(np.zeros(len(users) + 1, np.int64), nothing, nothing.astype(np.int64), np.empty(0, np.float32))
    table = _Columns(path, "model histories", "user_id", ("item_ids", "times", "counts"))
    rows, lengths = table.rows(users), table.lengths(("item_ids", "times", "counts"))
    times = table.list_numbers("times", 0.0).astype(np.int64)
    of_user = np.repeat(rows, lengths)
    newer = np.flatnonzero((np.diff(times) > 0) & (np.diff(of_user) == 0))
    if len(newer):
        raise InvalidInput(
            ("model histories", f"{path}: the history of {users[of_user[newer[0]]]!r} is not newest first")
        )
    order = np.argsort(of_user, kind="stable")
    offsets = np.zeros(len(users) + 1, np.int64)
    np.cumsum(np.bincount(of_user, minlength=len(users)), out=offsets[1:])
    return Histories(
        offsets,
        table.list_rows("item_ids", items)[order],
        times[order],
        table.list_numbers("counts", 0.0)[order].astype(np.float32),
    )


class _Columns:
    """The columns of one file, each checked as it is read; rows that are refused are named by the file's ids."""

    def __init__(self, path: Path, field: str, key: str, columns: tuple[str, ...]) -> None:
        self._path, self._field = path, field
        table = read_table(path, field)
        require_columns(table.schema.names, (key, *columns), path, field)
        self._ids = id_column(table.column(key), f"{path}: column {key}", field)
        check_ids(self._ids, f"{path}: column {key}", field)
        self._columns = {name: table.column(name).combine_chunks() for name in columns}

    def _refused(self, problem: str) -> InvalidInput:
        return InvalidInput((self._field, f"{self._path}: {problem}"))

    def rows(self, ids: list[str]) -> NDArray[np.int32]:
        """Row in `ids` of each row of the file."""
        rows = rows_of(self._ids, ids)
        unknown = [repr(self._ids[row]) for row in np.flatnonzero(rows < 0)[:1000]]
        if unknown:
            raise self._refused(f"{named(unknown)} have no embedding; leave them out")
        return rows

    def numbers(self, name: str, least: float) -> NDArray[np.float64]:
        """A column of numbers, NaN where there is none; 0 where a count is missing."""
        return self._checked(self._columns[name], name, least)

    def _checked(self, column: Any, name: str, least: float, of_row: NDArray[Any] | None = None) -> NDArray[np.float64]:
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            raise self._refused(f"column {name} is {kind}, must be numbers")
        missing = column.is_null().to_numpy(zero_copy_only=False)
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        broken = np.flatnonzero(~missing & ~(np.isfinite(values) & (values >= least)))
        if len(broken):
            row = int(broken[0] if of_row is None else of_row[broken[0]])
            limit = "" if math.isinf(least) else f" and at least {least:g}"
            raise self._refused(
                f"{name} of {self._ids[row]!r} (row {row}) is {values[broken[0]]:g}, must be finite{limit}"
            )
        return np.where(missing, 0.0, values) if name in COUNTS else values

    def lengths(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """The lengths of the lists of each row, which must agree between columns; a missing list is empty."""
        lengths: list[NDArray[np.int64]] = []
        for name in names:
            kind = self._columns[name].type
            if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
                raise self._refused(f"column {name} is {kind}, must be lists")
            found = self._columns[name].value_lengths().fill_null(0)
            lengths.append(np.asarray(found.to_numpy(zero_copy_only=False), np.int64))
            odd = np.flatnonzero(lengths[0] != lengths[-1])
            if len(odd):
                raise self._refused(
                    f"{names[0]} and {name} of {self._ids[odd[0]]!r} (row {odd[0]}) differ in length: "
                    f"{lengths[0][odd[0]]} and {lengths[-1][odd[0]]}"
                )
        return lengths[0]

    def list_numbers(self, name: str, least: float) -> NDArray[np.float64]:
        """All numbers of a column of lists, one after the other."""
        column = self._columns[name]
        values = column.flatten()
        of_row = column.value_parent_indices().to_numpy(zero_copy_only=False)
        if values.null_count:
            row = int(of_row[np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]])
            raise self._refused(f"{name} of {self._ids[row]!r} (row {row}) lacks a number")
        return self._checked(values, name, least, of_row)

    def list_rows(self, name: str, ids: list[str]) -> NDArray[np.int32]:
        """Rows in `ids` of all ids of a column of lists, one after the other."""
        column = self._columns[name]
        names = id_column(column.flatten(), f"{self._path}: column {name}", self._field)
        rows = rows_of(names, ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            row = int(column.value_parent_indices()[int(unknown[0])].as_py())
            raise self._refused(
                f"{name} of {self._ids[row]!r} (row {row}) names {names[unknown[0]]!r}, which has no embedding"
            )
        return rows
