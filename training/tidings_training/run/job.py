"""One run: data, proof, model, release, promotion; each step once, whatever interrupts it."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tidings
from tidings_core.errors import InUse, TidingsError
from tidings_core.release import MANIFEST
from tidings_index_builder.build import versions
from tidings_index_builder.catalogue import read_catalogue
from tidings_index_builder.model_dir import MODEL_FILE
from tidings_index_builder.progress import Progress
from tidings_index_builder.rebuild import ASK_SECONDS, alone, rebuild
from tidings_index_builder.settings import RebuildSettings
from tidings_training.audit import audit
from tidings_training.event_files import fingerprint, read_log
from tidings_training.fit import fit
from tidings_training.proof.splits import Cut
from tidings_training.run.gate import judge
from tidings_training.run.settings import RunSettings
from tidings_training.run.steps import Step, Steps, sha256_of
from tidings_training.trainer import Settings

PACKAGES = ("tidings", "implicit", "numpy", "scipy", "onnx", "faiss-cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run did.

    `promoted`: the new release answers. `built`: nobody was to promote it. `held_back`: the gate refused the model, and
    `reasons` say why. `busy`: another run is at work. `failed`: `error` says why. `problems` are those of the data,
    `gate` what the gate found (`gate.Verdict`); what the other steps found lies in `work`.
    """

    outcome: Literal["promoted", "built", "held_back", "busy", "failed"]
    seconds: float = 0.0
    release_id: str | None = None
    previous_release_id: str | None = None
    reasons: Sequence[str] = ()
    problems: Sequence[str] = ()
    gate: Mapping[str, Any] | None = None
    steps: Sequence[Step] = ()
    error: str | None = None


def run(settings: RunSettings, now: float, progress: Progress, clock: Callable[[], float] = time.monotonic) -> Ran:
    """Look the events over, pass the gate, learn, build and promote; `now` is Unix seconds and names the release.

    What a step made stays in `work` and is taken again while its inputs are the same. Whatever fails, what serves goes
    on serving.
    """
    start = clock()
    steps = Steps(settings.work)
    try:
        with alone(settings.work, "run"):
            ran = _run(settings, now, progress, steps)
    except InUse as error:
        return Ran(outcome="busy", seconds=clock() - start, error=str(error))
    except (TidingsError, tidings.TidingsError, OSError) as error:
        ran = Ran(outcome="failed", steps=steps.done, error=str(error))
    return replace(ran, seconds=round(clock() - start, 3))


def _run(settings: RunSettings, now: float, progress: Progress, steps: Steps) -> Ran:
    threads = settings.threads or len(os.sched_getaffinity(0))
    serving = serving_release(settings, progress)
    progress("reading the files' checksums")
    data: dict[str, Any] = {
        "events": fingerprint(settings.events),
        "catalogue": None if settings.catalogue is None else sha256_of(settings.catalogue),
        "layout": asdict(settings.layout),
        "versions": versions(*PACKAGES),
    }
    learning = Settings(
        retrieval=settings.retrieval,
        factors=settings.factors,
        iterations=settings.iterations,
        seed=settings.seed,
        threads=threads,
    )
    # Threads change nothing but the time it takes.
    learned = {name: value for name, value in asdict(learning).items() if name != "threads"}
    checked = steps("check", data, lambda: _check(settings, now, progress))
    gate = steps(
        "gate",
        {
            **learned,
            "gate": settings.gate.model_dump(mode="json"),
            "serving": None if serving is None else serving.name,
        },
        lambda: _gate(settings, serving, learning, progress),
    )
    problems = checked["problems"]
    if not gate["passed"]:
        return Ran(outcome="held_back", reasons=gate["reasons"], problems=problems, gate=gate, steps=steps.done)
    model = settings.work / "model"
    steps("fit", learned, lambda: _fit(settings, model, gate, learning, progress), (model / MODEL_FILE).is_file)
    building = RebuildSettings(
        model=model,
        releases=settings.releases,
        catalogue=settings.catalogue,
        attributes=settings.attributes,
        recall_target=settings.recall_target,
        seed=settings.seed,
        threads=threads,
        server=settings.server if settings.promote else None,
        keep=settings.keep,
    )
    built = steps(
        "release",
        {"releases": str(settings.releases.absolute()), **building.model_dump(mode="json", exclude={"threads"})},
        lambda: _build(building, now, progress),
        lambda: False if building.server is not None else _is_there(settings.releases, steps),
    )
    return Ran(
        outcome="promoted" if built["outcome"] == "promoted" else "built",
        release_id=built["release_id"],
        previous_release_id=built["previous_release_id"],
        reasons=gate["reasons"],
        problems=problems,
        gate=gate,
        steps=steps.done,
    )


def serving_release(settings: RunSettings, progress: Progress) -> Path | None:
    """The directory of the release that serves; None when none does. Raises tidings.TidingsError without an answer."""
    if settings.server is None:
        return settings.serving
    progress(f"asking {settings.server}")
    with tidings.Client(settings.server) as client:
        for release in client.list_releases(timeout=ASK_SECONDS):
            if release.state == "serving":
                return settings.releases / release.release_id
    return settings.serving


def _check(settings: RunSettings, now: float, progress: Progress) -> dict[str, Any]:
    progress("reading events")
    log = read_log(settings.events, settings.layout)
    progress("looking them over")
    return asdict(audit(log, Cut(holdout_days=settings.gate.holdout_days), now))


def _gate(settings: RunSettings, serving: Path | None, learning: Settings, progress: Progress) -> dict[str, Any]:
    log = read_log(settings.events, settings.layout)
    catalogue = None if settings.catalogue is None else read_catalogue(settings.catalogue, settings.attributes)
    with tempfile.TemporaryDirectory(prefix="tidings-gate-") as folder:
        return asdict(judge(log, catalogue, serving, settings.gate, Path(folder), learning, progress))


def _fit(
    settings: RunSettings, model: Path, gate: dict[str, Any], learning: Settings, progress: Progress
) -> dict[str, Any]:
    fitted = fit(
        settings.events,
        settings.catalogue,
        model,
        layout=settings.layout,
        holdout_days=None,
        settings=learning,
        progress=progress,
        lineage={"gate": gate},
    )
    return {"as_of": fitted.model.as_of, "events": fitted.model.lineage["events"]}


def _build(building: RebuildSettings, now: float, progress: Progress) -> dict[str, Any]:
    found = rebuild(building, now, progress)
    if found.outcome in ("busy", "failed"):
        raise TidingsError(found.error or found.outcome)
    return asdict(found)


def _is_there(releases: Path, steps: Steps) -> bool:
    """Whether the release that was built before still stands."""
    kept = steps.kept("release")
    return kept is not None and (releases / str(kept["release_id"]) / MANIFEST).is_file()


def as_json(ran: Ran) -> dict[str, Any]:
    """What a run did, as values that fit JSON; of the steps what they took."""
    steps = [{name: getattr(step, name) for name in ("name", "seconds", "peak_mb", "resumed")} for step in ran.steps]
    return {**asdict(ran), "steps": steps}
