"""One build from files: read all that is named, then build."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tidings_core.errors import InvalidInput
from tidings_core.release import Manifest
from tidings_index_builder.build import build_release
from tidings_index_builder.catalogue import read_catalogue
from tidings_index_builder.embeddings import read_embeddings
from tidings_index_builder.model_dir import read_model
from tidings_index_builder.progress import Progress
from tidings_index_builder.ranker_wrap import fit_ranker
from tidings_index_builder.settings import BuildSettings
from tidings_index_builder.table_files import readable

T = TypeVar("T")


def run_build(settings: BuildSettings, now: float, progress: Progress) -> Manifest:
    """Build a release from the files the settings name. `now` is Unix seconds.

    Raises InvalidInput naming what is wrong in every file, ReleaseRefused, or OSError when the disk is full; then
    nothing is left behind.
    """
    read = _Reading(progress)
    model = read("the model", settings.model, read_model)
    items = read("items", settings.items, lambda path: read_embeddings(path, settings.item_ids, "items"))
    users = read("users", settings.users, lambda path: read_embeddings(path, settings.user_ids, "users"))
    catalogue = read(
        "the catalogue", settings.catalogue, lambda path: read_catalogue(path, settings.attributes, progress)
    )
    ranker = read("the ranker", settings.ranker, _read_ranker)
    if settings.attributes and settings.catalogue is None:
        read.violations.append(("attributes", "need a catalogue to stand in"))
    if read.violations:
        raise InvalidInput(*read.violations)
    if items is None or users is None:
        # The settings see to it that there is a model then.
        assert model is not None
        items, users = items or model.items, users or model.users
    named = {name: getattr(settings, name) for name in ("items", "users", "catalogue", "ranker")}
    return build_release(
        items=items,
        users=users,
        catalogue=catalogue,
        model=model,
        ranker=ranker,
        metric=settings.metric,
        releases=settings.releases,
        now=now,
        recall_target=settings.recall_target,
        k=settings.k,
        seed=settings.seed,
        threads=settings.threads,
        max_bytes_per_item=settings.max_bytes_per_item,
        max_build_seconds=settings.max_build_seconds,
        lineage={"inputs": {name: _described(path) for name, path in named.items() if path is not None}},
        progress=progress,
    )


class _Reading:
    """Reads inputs one after the other and gathers what is wrong in all of them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.violations: list[tuple[str, str]] = []

    def __call__(self, what: str, path: Path | None, read: Callable[[Path], T]) -> T | None:
        if path is None:
            return None
        self._progress(f"reading {what}")
        try:
            return read(path)
        except InvalidInput as error:
            self.violations.extend(error.violations)
            return None


def _read_ranker(path: Path) -> bytes:
    with readable(path, "ranker"):
        model = path.read_bytes()
    return fit_ranker(model, str(path))


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "path": str(path),
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
