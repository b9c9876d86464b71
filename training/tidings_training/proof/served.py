"""The way through the code that serves: a real release, asked by `tidings_core.recommend`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tidings_core.encoder import STEPS
from tidings_core.errors import InvalidInput
from tidings_core.model import MAX_BATCH, Neighbours, Person, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.ranker import OnnxRanker
from tidings_core.recommend import recommend
from tidings_core.release import open_release
from tidings_core.sources import offered
from tidings_core.subjects import history_of
from tidings_core.tables import Float64, Int32
from tidings_index_builder.build import build_release
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.ids import rows_of
from tidings_index_builder.model_dir import Model
from tidings_training import popularity
from tidings_training.contenders.contender import Embedded, Sequential, TrainingSet
from tidings_training.proof.compare import Measured, measured
from tidings_training.questions import Questions, of_everyone
from tidings_training.ranker import export
from tidings_training.trainer import SERVING, Settings, Trainer


def serve_model(
    name: str,
    learned: Embedded | Sequential,
    training: TrainingSet,
    asked: Questions,
    ks: Sequence[int],
    repeats: bool,
    folder: Path,
) -> Measured:
    """A model's vectors in a release of their own, with an index chosen by measuring, asked through the source `ann`.

    Strangers with a past are asked with the vector that is folded in of it, and of a model that goes by order everybody
    with what they did. `folder` is for the release.
    """
    training.progress(f"building a release of {name}")
    events = training.log.liked()
    if not events.purchases.any():
        events = replace(events, purchases=np.ones(len(events), np.bool_))
    item_rows, user_rows = (
        rows_of(events.item_ids, training.log.item_ids),
        rows_of(events.user_ids, training.log.user_ids),
    )
    count = len(events.item_ids)
    none = Neighbours(np.empty((count, 0), np.int32), np.empty((count, 0), np.float32))
    by_order = isinstance(learned, Sequential)
    if isinstance(learned, Sequential):
        everyone = of_everyone(training.log, training.as_of, aged=training.aged, seed=training.seed)
        items, users = learned.item_vectors, learned.vectors(everyone)
    else:
        items, users = learned.items, learned.users
    model = Model(
        item_ids=events.item_ids,
        item_vectors=items[item_rows],
        user_ids=events.user_ids,
        user_vectors=users[user_rows],
        neighbours=none,
        complements=none,
        statistics=popularity.item_statistics(events, training.as_of),
        trending=popularity.trending(events, training.as_of),
        histories=popularity.histories(events),
        as_of=training.as_of,
        ranker=None,
        lineage={},
        encoder=learned.encoder() if isinstance(learned, Sequential) else None,
    )
    manifest = build_release(
        items=model.items,
        users=model.users,
        model=model,
        metric="inner_product",
        releases=folder,
        now=training.as_of,
        k=min(100, count),
        seed=training.seed,
        threads=training.threads,
        report=False,
    )
    snapshot = open_release(folder / manifest.release_id).snapshot
    serving = ServingConfig("ann", (SourceUse("ann", max(ks)),), rerank=False, exclude_bought=not repeats)
    if by_order:
        people = _readers(snapshot, training, asked)
    else:
        known, vectors = asked.users >= 0, learned.vectors(asked)
        people = [None if there else Person(vector=vector) for there, vector in zip(known, vectors, strict=True)]
    start = time.perf_counter()
    lists = ask(snapshot, serving, training, asked, max(ks), people, f"asking the release of {name}")
    spent = time.perf_counter() - start
    index = manifest.index
    return measured(
        f"{name} served",
        lists,
        training,
        asked,
        ks,
        microseconds=spent / len(asked) * 1e6,
        facts={"index": index.key, "index_recall": index.recall},
    )


def _readers(snapshot: Snapshot, training: TrainingSet, asked: Questions) -> list[Person | None]:
    """Those who ask, with what they did last and, where the release knows them, what they bought."""
    rows = snapshot.items.find_many(training.log.item_ids)
    users = snapshot.users.find_many([training.log.user_ids[person] for person in asked.people])
    found: list[Person | None] = []
    for place, user in enumerate(np.where(asked.users >= 0, users, -1).tolist()):
        begin, end = asked.starts[place : place + 2]
        done = slice(max(begin, end - STEPS), end)
        found.append(
            Person(
                history=history_of(None, user, snapshot), steps=rows[asked.items[done]], step_times=asked.moments[done]
            )
        )
    return found


def serve_pipeline(
    training: TrainingSet,
    asked: Questions,
    ks: Sequence[int],
    catalogue: Catalogue | None,
    folder: Path,
    ablation: bool,
    settings: Settings | None = None,
) -> dict[str, Measured]:
    """`for-you` as `fit` makes it, ranker included; with `ablation` also without the ranker, and without each source.

    Raises InvalidInput when there are no purchases to learn from.
    """
    settings = settings or Settings(seed=training.seed, threads=training.threads)
    trainer = Trainer(training.log.liked(), catalogue, folder, settings, training.progress)
    start = time.perf_counter()
    snapshot = trainer.snapshot(training.as_of)
    if snapshot is None:
        raise InvalidInput(("models", "for-you learns from purchases, and there are too few: leave it out"))
    ranked = trainer.ranker(training.as_of)
    if ranked is not None:
        snapshot = replace(snapshot, ranker=OnnxRanker(export(ranked.network), snapshot.item_features))
    seconds = time.perf_counter() - start
    found: dict[str, Measured] = {}
    for name, serving in pipeline_configs(snapshot, ablation).items():
        began = time.perf_counter()
        lists = ask(snapshot, serving, training, asked, max(ks), None, f"asking {name}")
        spent = time.perf_counter() - began
        facts: Mapping[str, Any] = {"ranker_lists": 0 if ranked is None else ranked.lists}
        found[name] = measured(
            name, lists, training, asked, ks, seconds=seconds, microseconds=spent / len(asked) * 1e6, facts=facts
        )
    return found


def pipeline_configs(snapshot: Snapshot, ablation: bool) -> dict[str, ServingConfig]:
    """`for-you`, and with `ablation` what is left of it without each part."""
    configs = {SERVING.name: SERVING}
    if ablation:
        if snapshot.ranker is not None:
            configs[f"{SERVING.name}, no ranker"] = replace(SERVING, rerank=False)
        if SERVING.diversity is not None:
            configs[f"{SERVING.name}, no diversity"] = replace(SERVING, diversity=None)
        for use in SERVING.sources:
            if use.name in offered(snapshot):
                rest = tuple(other for other in SERVING.sources if other != use)
                configs[f"{SERVING.name}, no {use.name}"] = replace(SERVING, sources=rest)
    return configs


def ask(
    snapshot: Snapshot,
    serving: ServingConfig,
    training: TrainingSet,
    asked: Questions,
    k: int,
    people: Sequence[Person | None] | None,
    step: str,
) -> Int32:
    """What the release answers, as rows of the log: i32[C, k], -1 in the padding."""
    row_of = {name: row for row, name in enumerate(training.log.item_ids)}
    rows = np.array([row_of[snapshot.items[row]] for row in range(len(snapshot.items))], np.int32)
    lists = np.full((len(asked), k), -1, np.int32)
    for start, end in _at_one_time(asked.times):
        batch = [
            Query(
                training.log.user_ids[asked.people[place]],
                serving,
                k=k,
                person=None if people is None else people[place],
            )
            for place in range(start, end)
        ]
        for place, answer in enumerate(recommend(batch, snapshot, float(asked.times[start])), start):
            named = [item.row for item in answer.items]
            lists[place, : len(named)] = rows[named]
        training.progress(step, end, len(asked))
    return lists


def _at_one_time(times: Float64) -> Iterator[tuple[int, int]]:
    """Spans of questions asked at one time, of MAX_BATCH at most."""
    ends = [*(np.flatnonzero(np.diff(times)) + 1).tolist(), len(times)]
    start = 0
    for end in ends:
        for begin in range(start, end, MAX_BATCH):
            yield begin, min(begin + MAX_BATCH, end)
        start = end
