"""The proof: split, learn, ask, measure, and what was found as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tidings_core.errors import InvalidInput
from tidings_core.model import MAX_K
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.progress import Progress, silent
from tidings_training.audit import TIES, ties
from tidings_training.contenders.contender import Embedded, Sequential, TrainingSet
from tidings_training.contenders.ease import MAX_ITEMS
from tidings_training.contenders.registry import LEARNERS
from tidings_training.events import PURCHASE
from tidings_training.log import Log
from tidings_training.proof import metrics
from tidings_training.proof.bootstrap import CONFIDENCE, RESAMPLES
from tidings_training.proof.compare import (
    QUESTIONS_LIMIT,
    Difference,
    Measured,
    best_of,
    choose,
    differences,
    try_model,
)
from tidings_training.proof.search import Trial, search
from tidings_training.proof.served import serve_model, serve_pipeline
from tidings_training.proof.slices import Slice, slices
from tidings_training.proof.splits import PROTOCOLS, Cut, Protocol, Split, split

PIPELINE = "for-you"
MODELS = (*LEARNERS, PIPELINE)
BASELINE = "popularity"


def fitting(log: Log, protocol: Protocol) -> tuple[str, ...]:
    """The models that make sense for a log: of values where people rate, of purchases where they buy, of order where
    there is one."""
    left = set() if log.of("rating").any() else {name for name, learner in LEARNERS.items() if learner.rates}
    if ties(log) > TIES:
        left.add("gru")
    if len(log.item_ids) > MAX_ITEMS:
        left.add("ease")
    if protocol == "sessions" or not log.of(PURCHASE).any():
        left.add(PIPELINE)
    return tuple(name for name in MODELS if name not in left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compare, and how. `options` maps a model to options other than its defaults.

    With `served` every model made of vectors is asked through a release too; with `ablation` the pipeline also without
    each of its parts. `search_seconds` is how long each model's options are searched for, 0 not at all. The baseline is
    always among the models.
    """

    models: tuple[str, ...]
    ks: tuple[int, ...] = (10, 20)
    cut: Cut = field(default_factory=Cut)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    served: bool = True
    ablation: bool = False
    search_seconds: float = 0.0
    limit: int = QUESTIONS_LIMIT
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found. `searched` maps a model to the trials of its search, best first."""

    plan: Plan
    split: Split
    training: TrainingSet
    measured: Mapping[str, Measured]
    differences: Sequence[Difference]
    slices: Sequence[Slice]
    searched: Mapping[str, Sequence[Trial]]


def check(plan: Plan) -> None:
    """Raise InvalidInput naming all that is wrong with a plan."""
    faults: list[tuple[str, str]] = []
    unknown = [name for name in plan.models if name not in MODELS]
    if unknown:
        faults.append(("models", f"there is no {', '.join(unknown)}; the models are {', '.join(MODELS)}"))
    if not plan.models:
        faults.append(("models", f"none is named; the models are {', '.join(MODELS)}"))
    if plan.cut.protocol not in PROTOCOLS:
        faults.append(("protocol", f"there is no {plan.cut.protocol}; the protocols are {', '.join(PROTOCOLS)}"))
    if plan.cut.protocol == "sessions" and PIPELINE in plan.models:
        faults.append(("models", f"{PIPELINE} knows users and not sessions: leave it out, or choose another protocol"))
    if not plan.ks or any(not 1 <= k <= MAX_K for k in plan.ks):
        faults.append(("k", f"must name numbers from 1 to {MAX_K}, such as 10,20"))
    if not plan.search_seconds >= 0:
        faults.append(("search_seconds", f"is {plan.search_seconds:g}, must be 0 or more"))
    for name, options in plan.options.items():
        faults += _option_faults(name, options)
    if plan.limit < 1:
        faults.append(("limit", f"is {plan.limit}, must be 1 or more"))
    if faults:
        raise InvalidInput(*faults)


def _option_faults(name: str, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    if name not in LEARNERS:
        return [("options", f"there is no model {name}; those with options are {', '.join(LEARNERS)}")]
    known = LEARNERS[name].options
    unknown = [option for option in options if option not in known]
    faults = [(f"options.{name}", f"there is no {option}; there are {', '.join(known)}") for option in unknown]
    for option in known:
        value = options.get(option, 1)
        if not isinstance(value, int | float) or not value >= 0:
            faults.append((f"options.{name}", f"{option} is {value!r}, must be a number of 0 or more"))
    return faults


def prove(log: Log, plan: Plan, folder: Path, catalogue: Catalogue | None = None, progress: Progress = silent) -> Proof:
    """Compare the models of a plan on a log. `folder` is for releases; whoever made it removes it.

    Deterministic given the seed, but for the times and for how far a search gets in its time. Raises InvalidInput.
    """
    check(plan)
    seed, k = plan.cut.seed, max(plan.ks)
    progress("splitting")
    parts = choose(split(log, plan.cut), seed, plan.limit)
    if not parts.questions.known.any():
        raise InvalidInput(
            ("events", "nobody who wants something has a past to go by: hold fewer events out, or give older ones")
        )
    aged = plan.cut.protocol != "random"
    training = TrainingSet(parts.train, parts.as_of, aged=aged, seed=seed, threads=plan.threads, progress=progress)
    found: dict[str, Measured] = {}
    searched: dict[str, list[Trial]] = {}
    for name in dict.fromkeys((BASELINE, *plan.models)):
        if name == PIPELINE:
            found |= serve_pipeline(training, parts.questions, plan.ks, catalogue, folder, plan.ablation)
            continue
        options = dict(plan.options.get(name, {}))
        if plan.search_seconds and (trials := search(name, parts, training, plan.cut, k, plan.search_seconds)):
            searched[name] = trials
            options = {**trials[0].options, **options}
        found[name], contender = try_model(name, options, training, parts, plan.ks)
        if plan.served and isinstance(contender, Embedded | Sequential):
            served = serve_model(
                name, contender, training, parts.questions, plan.ks, _shows_again(plan.cut), folder / name
            )
            known = parts.questions.known
            same = float((served.lists == found[name].lists).all(axis=1)[known].mean())
            found[served.name] = replace(served, facts={**served.facts, "same_lists": same})
    known = parts.questions.known
    best = best_of(whole_of(found), k)
    told = differences(found, parts.questions.people[known], k, BASELINE, best, seed)
    return Proof(plan, parts, training, found, told, slices(found, parts.questions, training, catalogue, k), searched)


def whole_of(found: Mapping[str, Measured]) -> dict[str, Measured]:
    """Those of the models that are no pipeline without one of its parts."""
    return {name: one for name, one in found.items() if not name.startswith(f"{PIPELINE}, no ")}


def _shows_again(cut: Cut) -> bool:
    return cut.repeats or cut.protocol == "sessions"


def as_json(proof: Proof) -> dict[str, Any]:
    """What was found, as values that fit JSON."""
    parts, asked = proof.split, proof.split.questions
    unknown = ~proof.training.known
    return {
        "protocol": parts.protocol,
        "cut": asdict(proof.plan.cut),
        "as_of": parts.as_of,
        "train_events": len(parts.train),
        "test_events": len(parts.test),
        "known_users": int((np.diff(proof.training.matrix.indptr) > 0).sum()),
        "known_items": int(proof.training.known.sum()),
        "questions": int(asked.known.sum()),
        "questions_of_new_people": int((~asked.known).sum()),
        "wanted": int(asked.wanted[asked.known].nnz),
        "wanted_of_unknown_items": int(unknown[asked.wanted[asked.known].indices].sum()),
        "models": {name: _model_json(one) for name, one in proof.measured.items()},
        "differences": [asdict(difference) for difference in proof.differences],
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "slices": [asdict(one) for one in proof.slices],
        "searched": {name: [asdict(trial) for trial in trials] for name, trials in proof.searched.items()},
    }


def _model_json(one: Measured) -> dict[str, Any]:
    return {
        "options": {name: _plain(value) for name, value in one.options.items()},
        "seconds": round(one.seconds, 3),
        "microseconds_per_question": round(one.microseconds, 1),
        "at": {str(k): {**metrics.means(values), **one.beyond[k]} for k, values in one.at.items()},
        **one.facts,
    }


def _plain(value: Any) -> Any:
    """JSON knows no infinity."""
    return "infinite" if isinstance(value, float) and np.isinf(value) else value
