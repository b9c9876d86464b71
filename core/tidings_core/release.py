"""The release format: one directory, one manifest, written whole or not at all, validated before it is used.

A release directory holds `manifest.json` (written last), NumPy arrays, the FAISS index, the ONNX ranker and the
builder's report. Arrays are memory-mapped when opened. The manifest carries every file's size and SHA-256.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tidings_core.attributes import Attribute, Flag, Keyword, Kind, Number, Tags, Time, ascending
from tidings_core.drift import Spread
from tidings_core.encoder import OnnxEncoder
from tidings_core.errors import DependencyFailed, InvalidInput, NotFound, ReleaseRefused
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, SCHEMA_HASH, USER_FEATURES
from tidings_core.index import FaissIndex, FilterPlan, open_index
from tidings_core.model import (
    FoldIn,
    Histories,
    Metric,
    Neighbours,
    Postings,
    Snapshot,
    Trending,
)
from tidings_core.ranker import OnnxRanker
from tidings_core.sources import offered
from tidings_core.tables import BytesTable, Float32, IdTable, Int64

FORMAT = 1
MANIFEST = "manifest.json"
INDEX_FILE = "index.faiss"
RANKER_FILE = "ranker.onnx"
ENCODER_FILE = "encoder.onnx"
REPORT_FILE = "report.html"
UNFINISHED = ".unfinished-"
"""Prefix of a directory that is still being written. Never listed, never opened."""
GOLDEN_QUERIES = 8
GOLDEN_K = 10
RELEASE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}\Z")
_FILE_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """How the index was chosen and what it reaches.

    `recall` is recall@`recall_k` on `recall_queries` user vectors that it was neither tuned nor selected on, and that
    then accepted it.
    """

    key: str
    parameters: dict[str, int]
    recall: float
    recall_k: int
    recall_target: float
    recall_queries: int
    microseconds_per_query: float
    bytes_per_item: float
    built_at: float
    """Unix seconds."""
    filter_plan: FilterPlan = FilterPlan()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Size in bytes and SHA-256 in hex of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FoldInInfo:
    """The constants that implicit learned the item vectors with; the Gram matrix that goes with them is a file."""

    alpha: float
    regularization: float


@dataclass(frozen=True, slots=True)
class ChangesHeld:
    """The changes of a catalogue that a release holds: those of the store `epoch` up to `number`."""

    epoch: str
    number: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a release holds. `created_at` is Unix seconds; `statistics` maps a feature to its mean, std, min and max.

    `trained_until` is the time in Unix seconds up to which the vectors know what was done, 0 when nobody said;
    `fold_in` the constants they were learned with, None when they cannot be folded in; `user_norm` the median length
    of the user vectors. Vectors of one `vector_space` can be compared. `changes_held` are those that were folded in,
    None when none was.
    `spreads` maps a feature to how it was spread in what the ranker learned from; empty when nobody said.
    In the file stands one more field, `sha256`: that of all the others, so that no figure of it can be changed unseen.
    """

    format: int
    release_id: str
    created_at: float
    item_count: int
    user_count: int
    dim: int
    metric: Metric
    schema_hash: str
    trained_until: float
    fold_in: FoldInInfo | None
    user_norm: float
    vector_space: str
    changes_held: ChangesHeld | None
    index: IndexInfo
    sources: tuple[str, ...]
    ranked: bool
    encoded: bool
    attributes: dict[str, Kind]
    statistics: dict[str, dict[str, float]]
    spreads: dict[str, Spread]
    lineage: dict[str, Any]
    files: dict[str, FileInfo]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a release is written from.

    Vectors are as `index.normalise` leaves them: item_vectors f32[N, D], user_vectors f32[U, D]; item_features
    f32[N, F]; `payloads` N encoded items; recall_queries f32[Q, D] the user vectors the manifest's
    recall was measured on, kept so that anyone can measure it again. item_times i64[N] is when the shop last described
    each item, in Unix microseconds, 0 where that is not known (None: of none). `vector_space` names the space of the
    vectors; "" takes a name made of the item vectors.
    """

    item_ids: Sequence[str]
    user_ids: Sequence[str]
    item_vectors: Float32
    user_vectors: Float32
    metric: Metric
    index: FaissIndex
    index_info: IndexInfo
    item_features: Float32
    payloads: Sequence[bytes]
    recall_queries: Float32
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    neighbours: Neighbours | None = None
    complements: Neighbours | None = None
    trending: Trending | None = None
    category_trends: Postings | None = None
    histories: Histories | None = None
    words: Postings | None = None
    categories: Postings | None = None
    fold_in: FoldIn | None = None
    trained_until: float = 0.0
    item_times: Int64 | None = None
    vector_space: str = ""
    changes_held: ChangesHeld | None = None
    ranker: bytes | None = None
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    encoder: bytes | None = None
    report: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """An opened and validated release."""

    manifest: Manifest
    path: Path
    snapshot: Snapshot


def write_release(releases: Path, parts: Parts, now: float) -> Manifest:
    """Write a release under a name made of `now` (Unix seconds) and its content, and return its manifest.

    Everything is written under a temporary name, flushed to disk, opened and validated as the server would, and only
    then renamed. Raises InvalidInput or ReleaseRefused, or OSError when the disk is full; then nothing is left behind.
    """
    releases.mkdir(parents=True, exist_ok=True)
    with _unfinished(releases) as folder:
        _write_files(folder, parts)
        files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
        content = hashlib.sha256("".join(info.sha256 for info in files.values()).encode()).hexdigest()[:8]
        release_id = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{content}"
        if (releases / release_id).exists():
            raise ReleaseRefused(release_id, "is already there: the same content was built within this second")
        manifest = Manifest(
            format=FORMAT,
            release_id=release_id,
            created_at=now,
            item_count=len(parts.item_ids),
            user_count=len(parts.user_ids),
            dim=int(parts.item_vectors.shape[1]),
            metric=parts.metric,
            schema_hash=SCHEMA_HASH,
            trained_until=parts.trained_until,
            fold_in=None if parts.fold_in is None else FoldInInfo(parts.fold_in.alpha, parts.fold_in.regularization),
            user_norm=user_norm(parts.user_vectors),
            vector_space=parts.vector_space or _space(parts),
            changes_held=parts.changes_held,
            index=parts.index_info,
            sources=offered(parts),
            ranked=parts.ranker is not None,
            encoded=parts.encoder is not None,
            attributes={name: attribute.kind for name, attribute in parts.attributes.items()},
            statistics=_statistics(parts.item_features),
            spreads=dict(parts.spreads),
            lineage=dict(parts.lineage),
            files=files,
        )
        (folder / MANIFEST).write_text(_seal(asdict(manifest)))
        _sync(folder)
        _validate(folder, manifest)
        os.rename(folder, releases / release_id)
    _sync_directory(releases)
    return manifest


def list_releases(releases: Path) -> list[Manifest | ReleaseRefused]:
    """Every release in a directory, newest first; one whose manifest cannot be read is its ReleaseRefused.

    Manifests only: `open_release` is what validates the rest. Raises NotFound when the directory is not there.
    """
    if not releases.is_dir():
        raise NotFound(f"the releases directory {releases} is not there")
    names = sorted((p.name for p in releases.iterdir() if p.is_dir() and not p.name.startswith(".")), reverse=True)
    found: list[Manifest | ReleaseRefused] = []
    for name in names:
        try:
            found.append(read_manifest(releases / name))
        except ReleaseRefused as refused:
            found.append(refused)
        except NotFound:  # Removed since the directory was read.
            continue
    return found


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a release directory. Raises NotFound, or ReleaseRefused with the reason."""
    if not folder.is_dir():
        raise NotFound(f"there is no release {folder.name} in {folder.parent}")
    folder = folder.resolve()
    try:
        fields = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise ReleaseRefused(
            folder.name, f"{MANIFEST} cannot be read ({error.strerror}): not a finished release"
        ) from error
    except ValueError as error:
        raise ReleaseRefused(folder.name, f"{MANIFEST} is not a JSON object: {error}") from error
    if not isinstance(fields, dict):
        raise ReleaseRefused(folder.name, f"{MANIFEST} is not a JSON object")
    if fields.get("format") != FORMAT:
        raise ReleaseRefused(
            folder.name, f"{MANIFEST} has format {fields.get('format')!r}; this version reads format {FORMAT}"
        )
    if fields.pop("sha256", None) != _body_hash(fields):
        raise ReleaseRefused(folder.name, f"{MANIFEST} has been changed: its SHA-256 is not the one it carries")
    try:
        manifest = TypeAdapter(Manifest).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReleaseRefused(folder.name, f"{MANIFEST}: {where}: {first['msg']}") from error
    if manifest.release_id != folder.name:
        raise ReleaseRefused(folder.name, f"its manifest says it is {manifest.release_id}: the directory was renamed")
    for name in manifest.files:
        if not _FILE_NAME.match(name):
            raise ReleaseRefused(folder.name, f"{MANIFEST} names a file {name!r} that is not a plain name")
    for name in (INDEX_FILE, *([RANKER_FILE] if manifest.ranked else [])):
        if name not in manifest.files:
            raise ReleaseRefused(folder.name, f"{name} is not in its manifest")
    return manifest


def _seal(fields: dict[str, Any]) -> str:
    """The text of a manifest: its fields and the SHA-256 of them."""
    return json.dumps(fields | {"sha256": _body_hash(fields)}, indent=1, sort_keys=True) + "\n"


def _body_hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def open_release(folder: Path) -> Release:
    """Open a release and validate all of it: checksums, shapes, feature schema, golden queries.

    The golden queries also warm it up. Raises NotFound, or ReleaseRefused with the reason.
    """
    manifest = read_manifest(folder)
    return Release(manifest, folder.resolve(), _validate(folder, manifest))


def _validate(folder: Path, manifest: Manifest) -> Snapshot:
    name = manifest.release_id
    if manifest.schema_hash != SCHEMA_HASH:
        raise ReleaseRefused(
            name, f"made for feature schema {manifest.schema_hash}, this version computes {SCHEMA_HASH}: build it again"
        )
    for file, info in manifest.files.items():
        path = folder / file
        if not path.is_file():
            raise ReleaseRefused(name, f"{file} is missing")
        if path.stat().st_size != info.bytes:
            raise ReleaseRefused(name, f"{file} has {path.stat().st_size} bytes, its manifest says {info.bytes}")
        if _describe(path) != info:
            raise ReleaseRefused(name, f"{file} has been changed: its SHA-256 is not the manifest's")
    try:
        snapshot = _Arrays(folder, manifest).snapshot()
        if offered(snapshot) != manifest.sources:
            raise ReleaseRefused(name, f"holds what {offered(snapshot)} need, its manifest says {manifest.sources}")
        _check_golden(folder, manifest, snapshot)
    except (DependencyFailed, InvalidInput) as error:
        raise ReleaseRefused(name, str(error)) from error
    return snapshot


def read_user_ids(folder: Path) -> IdTable:
    """The users of a release directory. Raises NotFound or ReleaseRefused."""
    manifest = read_manifest(folder)
    return _Arrays(folder, manifest)._ids("users", manifest.user_count)


def known_until(manifest: Manifest) -> int:
    """Up to when a release may know what users did, in Unix milliseconds."""
    return int((manifest.trained_until or manifest.created_at) * 1000)


def read_recall_queries(folder: Path, manifest: Manifest) -> Float32:
    """The user vectors f32[Q, D] that a release's recall was measured on. Raises ReleaseRefused."""
    queries: Float32 = _Arrays(folder, manifest)._read("recall_queries", np.float32, (None, manifest.dim))
    return queries


class _Arrays:
    """Reads the arrays of a release, each checked against the shape its manifest implies."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest

    def snapshot(self) -> Snapshot:
        manifest = self._manifest
        items, users, dim = manifest.item_count, manifest.user_count, manifest.dim
        features = self._read("item_features", np.float32, (items, len(ITEM_FEATURES)))
        vectors = self._read("item_vectors", np.float32, (items, dim))
        chosen = manifest.index
        index = open_index(
            self._folder / INDEX_FILE, manifest.metric, chosen.key, chosen.parameters, vectors, chosen.filter_plan
        )
        ranker = OnnxRanker(self._folder / RANKER_FILE, features) if manifest.ranked else None
        return Snapshot(
            items=self._ids("items", items),
            users=self._ids("users", users),
            item_vectors=vectors,
            user_vectors=self._read("user_vectors", np.float32, (users, dim)),
            metric=manifest.metric,
            index=index,
            item_features=features,
            payloads=self._strings("payloads", items),
            attributes={name: self._attribute(name, kind, items) for name, kind in manifest.attributes.items()},
            neighbours=self._neighbours("neighbours", items) if self._has("neighbours.rows") else None,
            complements=self._neighbours("complements", items) if self._has("complements.rows") else None,
            trending=self._trending(items) if self._has("trending.rows") else None,
            category_trends=self._postings("category_trends", items) if self._has("category_trends.starts") else None,
            histories=self._histories(users, items) if self._has("histories.offsets") else None,
            ranker=ranker,
            user_attributes=() if ranker is None else ranker.user_attributes,
            encoder=OnnxEncoder(self._folder / ENCODER_FILE, dim) if manifest.encoded else None,
            words=self._postings("words", items) if self._has("words.starts") else None,
            categories=self._postings("categories", items) if self._has("categories.starts") else None,
            fold_in=None if manifest.fold_in is None else self._fold_in(manifest.fold_in, dim),
            trained_until=manifest.trained_until,
            user_norm=manifest.user_norm,
            item_times=self._read("item_times", np.int64, (items,)),
            vector_space=manifest.vector_space,
        )

    def _has(self, name: str) -> bool:
        return f"{name}.npy" in self._manifest.files

    def _refused(self, problem: str) -> ReleaseRefused:
        return ReleaseRefused(self._manifest.release_id, problem)

    def _read(self, name: str, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Map `name`.npy. An axis given as None may have any length. Raises ReleaseRefused."""
        file = f"{name}.npy"
        if file not in self._manifest.files:
            raise self._refused(f"{file} is not in its manifest")
        try:
            array = np.load(self._folder / file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise self._refused(f"{file} is not a NumPy array: {error}") from error
        fits = len(array.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise self._refused(f"{file} is {array.dtype}{list(array.shape)}, must be {np.dtype(dtype)}{list(shape)}")
        # A plain view of the mapping: np.memmap itself costs a Python call at every slice.
        return array.view(np.ndarray)

    def _strings(self, name: str, count: int) -> BytesTable:
        offsets = self._read(f"{name}.offsets", np.int64, (count + 1,))
        data = self._read(f"{name}.data", np.uint8, (None,))
        if offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
            raise self._refused(f"{name}.offsets.npy does not fit {name}.data.npy")
        return BytesTable(offsets, data)

    def _ids(self, name: str, count: int) -> IdTable:
        hashes = self._read(f"{name}.hashes", np.uint64, (count,))
        rows = self._rows(f"{name}.rows", (count,), count)
        return IdTable(self._strings(name, count), hashes, rows)

    def _rows(self, name: str, shape: tuple[int | None, ...], limit: int, padded: bool = False) -> NDArray[np.int32]:
        rows = self._read(name, np.int32, shape)
        if rows.size and (int(rows.min()) < (-1 if padded else 0) or int(rows.max()) >= limit):
            raise self._refused(f"{name}.npy points outside the {limit} rows there are")
        return rows

    def _attribute(self, name: str, kind: Kind, items: int) -> Attribute:
        stem = f"attribute.{name}"
        if kind == "number":
            return Number(self._read(f"{stem}.numbers", np.float64, (items,)))
        if kind == "time":
            return Time(self._read(f"{stem}.seconds", np.float64, (items,)))
        if kind == "flag":
            return Flag(self._read(f"{stem}.flags", np.int8, (items,)))
        values = self._strings(stem, len(self._read(f"{stem}.offsets", np.int64, (None,))) - 1)
        if not ascending(values):
            raise self._refused(f"{stem}.data.npy holds texts that do not ascend")
        if kind == "keyword":
            return Keyword(self._rows(f"{stem}.codes", (items,), len(values), padded=True), values)
        starts = self._read(f"{stem}.starts", np.int64, (items + 1,))
        codes = self._rows(f"{stem}.codes", (None,), len(values))
        if starts[0] != 0 or starts[-1] != len(codes) or (np.diff(starts) < 0).any():
            raise self._refused(f"{stem}.starts.npy does not fit {stem}.codes.npy")
        return Tags(starts, codes, values)

    def _neighbours(self, name: str, items: int) -> Neighbours:
        rows = self._rows(f"{name}.rows", (items, None), items, padded=True)
        return Neighbours(rows, self._read(f"{name}.scores", np.float32, rows.shape))

    def _trending(self, items: int) -> Trending:
        rows = self._rows("trending.rows", (None,), items)
        return Trending(rows, self._read("trending.scores", np.float32, rows.shape))

    def _histories(self, users: int, items: int) -> Histories:
        offsets = self._read("histories.offsets", np.int64, (users + 1,))
        rows = self._rows("histories.rows", (None,), items)
        if offsets[0] != 0 or offsets[-1] != len(rows) or (np.diff(offsets) < 0).any():
            raise self._refused("histories.offsets.npy does not fit histories.rows.npy")
        return Histories(
            offsets,
            rows,
            self._read("histories.times", np.int64, rows.shape),
            self._read("histories.counts", np.float32, rows.shape),
        )

    def _postings(self, name: str, items: int) -> Postings:
        words = self._ids(name, len(self._read(f"{name}.hashes", np.uint64, (None,))))
        starts = self._read(f"{name}.starts", np.int64, (len(words) + 1,))
        rows = self._rows(f"{name}.items", (None,), items)
        if starts[0] != 0 or starts[-1] != len(rows) or (np.diff(starts) < 0).any():
            raise self._refused(f"{name}.starts.npy does not fit {name}.items.npy")
        weights = self._read(f"{name}.weights", np.float32, rows.shape)
        return Postings(words, starts, rows, weights, float(self._read(f"{name}.mean_length", np.float64, (1,))[0]))

    def _fold_in(self, constants: FoldInInfo, dim: int) -> FoldIn:
        gram = self._read("fold_in.gram", np.float64, (dim, dim))
        # Without it the system may have no solution; what is no number would spread to every user folded in.
        if not (0 < constants.regularization < np.inf and np.isfinite(constants.alpha) and np.isfinite(gram).all()):
            raise self._refused("fold_in must have finite numbers, and a regularization above 0")
        return FoldIn(gram, constants.alpha, constants.regularization)


def _write_files(folder: Path, parts: Parts) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "item_vectors": np.asarray(parts.item_vectors, np.float32),
        "user_vectors": np.asarray(parts.user_vectors, np.float32),
        "item_features": np.asarray(parts.item_features, np.float32),
        "recall_queries": np.asarray(parts.recall_queries, np.float32),
        "item_times": np.zeros(len(parts.item_ids), np.int64) if parts.item_times is None else parts.item_times,
    }
    for name, ids in (("items", parts.item_ids), ("users", parts.user_ids)):
        arrays |= _id_arrays(name, IdTable.of(ids))
    arrays |= _string_arrays("payloads", BytesTable.of(parts.payloads))
    for name, attribute in parts.attributes.items():
        arrays |= _attribute_arrays(f"attribute.{name}", attribute)
    for name, near in (("neighbours", parts.neighbours), ("complements", parts.complements)):
        if near is not None:
            arrays |= {f"{name}.rows": near.rows, f"{name}.scores": near.scores}
    if parts.trending is not None:
        arrays |= {"trending.rows": parts.trending.rows, "trending.scores": parts.trending.scores}
    if parts.histories is not None:
        for name in ("offsets", "rows", "times", "counts"):
            arrays[f"histories.{name}"] = getattr(parts.histories, name)
    held = {"words": parts.words, "categories": parts.categories, "category_trends": parts.category_trends}
    for name, postings in held.items():
        if postings is not None:
            arrays |= _id_arrays(name, postings.words)
            arrays |= {f"{name}.starts": postings.offsets, f"{name}.items": postings.rows}
            arrays[f"{name}.weights"] = postings.weights
            arrays[f"{name}.mean_length"] = np.array([postings.mean_length])
    if parts.fold_in is not None:
        arrays["fold_in.gram"] = np.asarray(parts.fold_in.gram, np.float64)
    for name, array in (arrays | _golden(parts)).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    parts.index.write(folder / INDEX_FILE)
    if parts.ranker is not None:
        (folder / RANKER_FILE).write_bytes(parts.ranker)
    if parts.encoder is not None:
        (folder / ENCODER_FILE).write_bytes(parts.encoder)
    if parts.report:
        (folder / REPORT_FILE).write_text(parts.report)


def _space(parts: Parts) -> str:
    """A name for the space of vectors that nobody named: made of them, so that no two are taken for one."""
    return hashlib.sha256(parts.metric.encode() + np.asarray(parts.item_vectors, np.float32).tobytes()).hexdigest()[:16]


def user_norm(user_vectors: Float32) -> float:
    """The median length of user vectors f32[U, D]; 1 when there are none."""
    return float(np.median(np.linalg.norm(user_vectors, axis=1))) if len(user_vectors) else 1.0


def _id_arrays(name: str, table: IdTable) -> dict[str, NDArray[Any]]:
    return {f"{name}.hashes": table.hashes, f"{name}.rows": table.rows, **_string_arrays(name, table.names)}


def _attribute_arrays(stem: str, attribute: Attribute) -> dict[str, NDArray[Any]]:
    match attribute:
        case Keyword(codes, values):
            return {f"{stem}.codes": codes, **_string_arrays(stem, values)}
        case Tags(starts, codes, values):
            return {f"{stem}.starts": starts, f"{stem}.codes": codes, **_string_arrays(stem, values)}
        case Number(numbers):
            return {f"{stem}.numbers": numbers}
        case Time(seconds):
            return {f"{stem}.seconds": seconds}
        case Flag(flags):
            return {f"{stem}.flags": flags}


def _string_arrays(name: str, table: BytesTable) -> dict[str, NDArray[Any]]:
    return {f"{name}.offsets": table.offsets, f"{name}.data": table.data}


def _golden(parts: Parts) -> dict[str, NDArray[Any]]:
    """Questions whose answers are kept: a release that answers otherwise elsewhere is not the one that was built."""
    queries = np.asarray(parts.recall_queries[:GOLDEN_QUERIES], np.float32)
    k = min(GOLDEN_K, len(parts.item_ids))
    golden: dict[str, NDArray[Any]] = {
        "golden.queries": queries,
        "golden.search": parts.index.search(queries, k)[1],
    }
    if parts.ranker is not None:
        ranker = OnnxRanker(parts.ranker, parts.item_features)
        golden["golden.score"] = ranker.score(
            *_golden_candidates(len(queries), len(parts.item_ids), len(ranker.user_attributes))
        )
    if parts.encoder is not None:
        encoder = OnnxEncoder(parts.encoder, queries.shape[1])
        golden["golden.vector"] = encoder.encode(*_golden_steps(len(queries), parts.item_vectors))
        if not np.isfinite(golden["golden.vector"]).all():
            raise InvalidInput(("encoder", "makes vectors of its golden pasts that are no finite numbers"))
    return golden


def _golden_candidates(users: int, items: int, more: int = 0) -> tuple[NDArray[np.int64], Float32, Float32]:
    """Inputs for a ranker that are the same everywhere: small, varied, and inside what features can be.

    It asks for so many columns `more` of users.
    """
    rows = (np.arange(users * GOLDEN_K, dtype=np.int64).reshape(users, GOLDEN_K) * 7919) % items
    user = (np.arange(users * (len(USER_FEATURES) + more)) % 5).reshape(users, -1).astype(np.float32)
    pair = (np.arange(rows.size * len(CANDIDATE_FEATURES)) % 7 / 7).reshape(*rows.shape, -1).astype(np.float32)
    return rows, user, pair


def _golden_steps(users: int, item_vectors: Float32) -> tuple[Float32, Float32, Int64, Float32]:
    """Inputs for an encoder that are the same everywhere: pasts of different lengths, with short and long pauses."""
    rows = _golden_candidates(users, len(item_vectors))[0]
    lengths = np.arange(users, dtype=np.int64) % GOLDEN_K + 1
    there = np.arange(GOLDEN_K) < lengths[:, None]
    gaps = np.where(there, 4.0 ** np.arange(GOLDEN_K), 0.0).astype(np.float32)
    gaps[:, 0] = 0.0
    vectors = np.where(there[:, :, None], item_vectors[rows], np.float32(0.0))
    return vectors, gaps, lengths, (60.0 * lengths**4).astype(np.float32)


def _check_golden(folder: Path, manifest: Manifest, snapshot: Snapshot) -> None:
    arrays = _Arrays(folder, manifest)
    queries = arrays._read("golden.queries", np.float32, (None, manifest.dim))
    expected = arrays._read("golden.search", np.float32, (len(queries), None))
    if len(queries):
        scores = snapshot.index.search(queries, expected.shape[1])[1]
        # Another CPU sums in another order, so scores are close, not equal.
        if not np.allclose(scores, expected, rtol=1e-3, atol=1e-4):
            raise ReleaseRefused(
                manifest.release_id, "the index answers its golden queries otherwise than when it was built"
            )
    if snapshot.ranker is not None:
        expected = arrays._read("golden.score", np.float32, (len(queries), GOLDEN_K))
        scores = snapshot.ranker.score(
            *_golden_candidates(len(queries), manifest.item_count, len(snapshot.user_attributes))
        )
        if not np.allclose(scores, expected, rtol=1e-3, atol=1e-4):
            raise ReleaseRefused(
                manifest.release_id, "the ranker scores its golden candidates otherwise than when it was built"
            )
    if snapshot.encoder is not None:
        expected = arrays._read("golden.vector", np.float32, (len(queries), manifest.dim))
        made = snapshot.encoder.encode(*_golden_steps(len(queries), np.asarray(snapshot.item_vectors)))
        if not np.allclose(made, expected, rtol=1e-3, atol=1e-4):
            raise ReleaseRefused(
                manifest.release_id, "the encoder reads its golden pasts otherwise than when it was built"
            )


def _statistics(item_features: Float32) -> dict[str, dict[str, float]]:
    measures: dict[str, Callable[[NDArray[Any]], Any]] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    return {
        name: {measure: float(of(item_features[:, at].astype(np.float64))) for measure, of in measures.items()}
        for at, name in enumerate(ITEM_FEATURES)
    }


def _describe(path: Path) -> FileInfo:
    with path.open("rb") as file:
        return FileInfo(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@contextmanager
def _unfinished(releases: Path) -> Iterator[Path]:
    """A locked directory to write in; removed when it is still there at the end."""
    with _locked(releases):
        # Nobody else sweeps between the making of the directory and the taking of its lock.
        _sweep_unfinished(releases)
        number = 0
        while (folder := releases / f"{UNFINISHED}{os.getpid()}-{number}").exists():
            number += 1
        folder.mkdir()
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a directory, waiting for it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep_unfinished(releases: Path) -> None:
    """Remove what a builder that died left behind: an unfinished directory that nobody holds the lock of."""
    for folder in releases.glob(f"{UNFINISHED}*"):
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    _sync_directory(folder)


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
