"""The gate: a new model takes the place of the one that serves only when it does no worse on what neither has seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tidings_core.errors import InvalidInput
from tidings_core.events import EVENT_TYPES, Event, EventItem
from tidings_core.features import DAY
from tidings_core.model import Person
from tidings_core.person import view
from tidings_core.profile import EMPTY, fold
from tidings_core.release import Release, open_release
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.progress import Progress
from tidings_training.contenders.contender import TrainingSet
from tidings_training.log import Log
from tidings_training.proof import metrics
from tidings_training.proof.bootstrap import bootstrap
from tidings_training.proof.compare import QUESTIONS_LIMIT, Measured, choose, measured, try_model
from tidings_training.proof.served import ask, serve_pipeline
from tidings_training.proof.slices import parts_of, values
from tidings_training.proof.splits import Cut, Split, split
from tidings_training.questions import Questions
from tidings_training.run.settings import GateSettings
from tidings_training.trainer import SERVING, Settings

NDCG = metrics.METRICS.index("ndcg")
BASELINE, SERVES, NEW = "popularity", "serving", "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the new model may serve, and why not. Fits JSON after `dataclasses.asdict`.

    It was learned up to `split` (Unix seconds) and asked of what came after. `against` is the id of the serving
    release, "popularity" without one; `ndcg` the means of both; `gain` the mean difference with its interval; `slices`
    maps a slice to the same of it, with how many questions it rests on.
    """

    passed: bool
    reasons: list[str]
    split: float
    against: str
    k: int
    questions: int
    ndcg: dict[str, float] = field(default_factory=dict)
    gain: dict[str, float] = field(default_factory=dict)
    slices: dict[str, dict[str, float]] = field(default_factory=dict)


def judge(
    log: Log,
    catalogue: Catalogue | None,
    serving: Path | None,
    settings: GateSettings,
    folder: Path,
    learning: Settings,
    progress: Progress,
) -> Verdict:
    """Learn anew up to a day that the serving release has not seen beyond, and compare on the days after.

    `learning` says how; `serving` is the directory of the release that serves, None without one. It is asked with what
    people did between its training and that day, as a server would know it. `folder` is for releases; whoever made it
    removes it. Raises InvalidInput for a log without a past, NotFound or ReleaseRefused for a serving release that
    cannot be opened.
    """
    progress("opening the serving release")
    release = None if serving is None else open_release(serving)
    end = float(log.times.max())
    start = end - settings.holdout_days * DAY
    if release is not None:
        start = max(start, release.manifest.trained_until)
    against = BASELINE if release is None else release.manifest.release_id
    days = (end - start) / DAY
    try:
        parts = choose(split(log, Cut(holdout_days=days, seed=learning.seed)), learning.seed, QUESTIONS_LIMIT)
    except InvalidInput as error:
        return _unproved(settings, start, against, 0, "; ".join(text for _, text in error.violations))
    known = int(parts.questions.known.sum())
    if known < settings.least_questions:
        told = f"{known} people with a past wanted something new in the last {days:.1f} days"
        if release is not None and start == release.manifest.trained_until:
            told += ", which is since the serving release was trained"
        return _unproved(settings, start, against, known, f"{told}; {settings.least_questions} are needed")
    training = TrainingSet(parts.train, parts.as_of, seed=learning.seed, threads=learning.threads, progress=progress)
    found = _asked(parts, training, catalogue, release, settings.k, folder, learning)
    return _verdict(found, parts, training, catalogue, settings, against)


def _unproved(settings: GateSettings, start: float, against: str, questions: int, why: str) -> Verdict:
    return Verdict(
        passed=settings.unproved == "promote",
        reasons=[f"nothing is proved: {why}"],
        split=start,
        against=against,
        k=settings.k,
        questions=questions,
    )


def _asked(
    parts: Split,
    training: TrainingSet,
    catalogue: Catalogue | None,
    release: Release | None,
    k: int,
    folder: Path,
    learning: Settings,
) -> dict[str, Measured]:
    """The new model, and what it is to beat."""
    pipeline = serve_pipeline(training, parts.questions, (k,), catalogue, folder, ablation=False, settings=learning)
    new = pipeline[SERVING.name]
    if release is None:
        return {NEW: new, BASELINE: try_model(BASELINE, {}, training, parts, (k,))[0]}
    people = people_of(parts.questions, training, release)
    lists = ask(release.snapshot, SERVING, training, parts.questions, k, people, "asking the serving release")
    return {NEW: new, SERVES: measured(SERVES, lists, training, parts.questions, (k,))}


def people_of(asked: Questions, training: TrainingSet, release: Release) -> list[Person | None]:
    """What a server with this release would know of each who asks: what they did since it was trained."""
    log, snapshot = training.log, release.snapshot
    rows = snapshot.items.find_many(log.item_ids)
    later = log.where(log.times > release.manifest.trained_until)
    order = np.argsort(later.users, kind="stable")
    starts = np.searchsorted(later.users[order], np.arange(len(log.user_ids) + 1))
    found: list[Person | None] = []
    for person in asked.people:
        places = order[starts[person] : starts[person + 1]]
        if not len(places):
            found.append(None)
            continue
        name = log.user_ids[person]
        done = [
            (
                Event(
                    event_id=str(place),
                    type=EVENT_TYPES[later.kinds[place]],
                    user_id=name,
                    time=int(later.times[place] * 1000),
                    items=(EventItem(log.item_ids[later.items[place]]),),
                    value=None if np.isnan(later.values[place]) else float(later.values[place]),
                ),
                (int(later.items[place]),),
            )
            for place in places
        ]
        found.append(view(fold(EMPTY, done), rows, snapshot, snapshot.users.find(name)))
    return found


def _verdict(
    found: Mapping[str, Measured],
    parts: Split,
    training: TrainingSet,
    catalogue: Catalogue | None,
    settings: GateSettings,
    against: str,
) -> Verdict:
    asked, k = parts.questions, settings.k
    old = next(name for name in found if name != NEW)
    ndcg = {name: float(one.at[k][:, NDCG].mean()) for name, one in found.items()}
    gain = _gain(found[NEW].at[k] - found[old].at[k], asked.people[asked.known])
    reasons = []
    if gain["mean"] < settings.least_gain:
        reasons.append(
            f"NDCG@{k} is {ndcg[NEW]:.4f}, that of {against} {ndcg[old]:.4f}: a gain of {gain['mean']:+.4f}, and "
            f"{settings.least_gain:+.4f} is needed"
        )
    slices: dict[str, dict[str, Any]] = {}
    named = {part.name: part for part in parts_of(asked, training, catalogue)}
    for name in settings.protected:
        if name not in named:
            continue
        chosen, new = values(named[name], found[NEW], asked, k)
        _, before = values(named[name], found[old], asked, k)
        if not chosen.any():
            continue
        slices[name] = {"questions": int(chosen.sum()), **_gain(new - before, asked.people[chosen])}
        if slices[name]["high"] < 0:
            reasons.append(
                f"{name} are surely worse off: NDCG@{k} {slices[name]['mean']:+.4f} "
                f"({slices[name]['low']:+.4f} to {slices[name]['high']:+.4f})"
            )
    return Verdict(
        passed=not reasons,
        reasons=reasons,
        split=parts.as_of,
        against=against,
        k=k,
        questions=int(asked.known.sum()),
        ndcg=ndcg,
        gain=gain,
        slices=slices,
    )


def _gain(gains: Any, people: Any) -> dict[str, float]:
    low, high = bootstrap(gains, people, seed=0)
    return {"mean": float(gains[:, NDCG].mean()), "low": float(low[NDCG]), "high": float(high[NDCG])}
