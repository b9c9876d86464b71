"""From an events file to a model directory, with the proof of what it is worth beside it."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidings_index_builder.build import versions
from tidings_index_builder.catalogue import read_catalogue
from tidings_index_builder.model_dir import Model, write_model
from tidings_index_builder.progress import Progress, silent
from tidings_training.carts import CartEvaluation, evaluate_carts
from tidings_training.evaluate import Evaluation, evaluate
from tidings_training.event_files import Layout, fingerprint, liked_events, read_events, read_log
from tidings_training.events import Events
from tidings_training.ranker import export
from tidings_training.trainer import Settings, Trainer

EVALUATION_FILE = "evaluation.json"
HOLDOUT_DAYS = 28.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """The model that was written, and what was measured; None when it was not asked for."""

    model: Model
    evaluation: Evaluation | None


def fit(
    events_path: Path,
    catalogue_path: Path | None,
    out: Path,
    *,
    layout: Layout | None = None,
    until: float | None = None,
    holdout_days: float | None = HOLDOUT_DAYS,
    settings: Settings | None = None,
    progress: Progress = silent,
    lineage: Mapping[str, Any] | None = None,
) -> Fitted:
    """Learn from events up to `until` (Unix seconds; None: all) and write the model directory `out`.

    First, unless `holdout_days` is None, everything is learned from what came before the last days, ranker included,
    and measured on them. Then everything is learned again from all events. Deterministic given the seed. `lineage`
    fits JSON and is kept in the model beside its own.
    Raises InvalidInput naming what is wrong in which file; then nothing is written.
    """
    settings = settings or Settings()
    progress("reading events and catalogue")
    log = read_log(events_path, layout, until)
    events = liked_events(log, events_path)
    catalogue = None if catalogue_path is None else read_catalogue(catalogue_path)
    as_of = float(events.times[-1]) if until is None else until
    with tempfile.TemporaryDirectory(prefix="tidings-train-") as folder:
        trainer = Trainer(events, catalogue, Path(folder), settings, progress, log)
        evaluation = None if holdout_days is None else evaluate(trainer, as_of, holdout_days)
        ranked = trainer.ranker(as_of)
        learned = trainer.model(as_of)
    assert learned is not None, "read_events sees to it that there is enough to learn from"
    told: dict[str, Any] = {
        **(lineage or {}),
        "events": _described(events_path, events),
        "settings": asdict(settings),
        "ranker": None if ranked is None else {"windows": ranked.windows, "lists": ranked.lists},
        "evaluation": None if evaluation is None else asdict(evaluation),
        "versions": versions("tidings", "implicit", "numpy", "scipy", "onnx"),
    }
    progress("writing the model")
    model = replace(learned, lineage=told)
    if ranked is not None:
        model = replace(model, ranker=export(ranked.network), spreads=ranked.spreads)
    write_model(out, model, {} if evaluation is None else {EVALUATION_FILE: asdict(evaluation)})
    return Fitted(model, evaluation)


def measure_carts(
    events_path: Path,
    catalogue_path: Path | None,
    *,
    layout: Layout | None = None,
    until: float | None = None,
    holdout_days: float = HOLDOUT_DAYS,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> CartEvaluation:
    """Learn from what came before the last days, and measure what it names of their orders. Writes nothing.

    Deterministic given the seed. Raises InvalidInput naming what is wrong in which file.
    """
    progress("reading events and catalogue")
    events = read_events(events_path, layout, until)
    catalogue = None if catalogue_path is None else read_catalogue(catalogue_path)
    with tempfile.TemporaryDirectory(prefix="tidings-train-") as folder:
        trainer = Trainer(events, catalogue, Path(folder), settings or Settings(), progress)
        return evaluate_carts(trainer, float(events.times[-1]) if until is None else until, holdout_days)


def _described(path: Path, events: Events) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256": fingerprint(path),
        "events": len(events),
        "purchases": int(events.purchases.sum()),
        "users": len(events.user_ids),
        "items": len(events.item_ids),
        "first": _iso(float(events.times[0])),
        "last": _iso(float(events.times[-1])),
    }


def _iso(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"
