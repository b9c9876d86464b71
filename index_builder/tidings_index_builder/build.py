"""From embeddings, catalogue and model to a release."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tidings_core.attributes import keyword
from tidings_core.errors import InvalidInput
from tidings_core.features import ITEM_FEATURES, item_features
from tidings_core.index import FilterPlan, normalise
from tidings_core.model import FoldIn, Metric
from tidings_core.release import IndexInfo, Manifest, Parts, write_release
from tidings_core.tables import Float32
from tidings_core.text import category_trends
from tidings_index_builder.align import Learned, Shown, align_catalogue, align_model
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.embeddings import Embeddings, check_embeddings
from tidings_index_builder.filter_plan import plan_filters
from tidings_index_builder.ids import rows_of
from tidings_index_builder.model_dir import Model
from tidings_index_builder.postings import index_payloads
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.race import Budgets
from tidings_index_builder.ranker_wrap import fit_ranker
from tidings_index_builder.settings import TuneSettings, checked
from tidings_index_builder.tune import Tuned, tune


def build_release(
    *,
    items: Embeddings,
    users: Embeddings,
    catalogue: Catalogue | None = None,
    model: Model | None = None,
    ranker: bytes | None = None,
    metric: Metric,
    releases: Path,
    now: float,
    recall_target: float = 0.95,
    k: int = 100,
    seed: int = 0,
    threads: int = 1,
    max_bytes_per_item: float | None = None,
    max_build_seconds: float | None = None,
    exact: bool = False,
    searchable: bool = True,
    lineage: Mapping[str, Any] | None = None,
    report: bool = True,
    progress: Progress = silent,
) -> Manifest:
    """Tune an index, join what is known of items and users, and write a release into the directory `releases`.

    `model` adds neighbours, popularity and histories, found by id, and its ranker unless `ranker` is given. A plain
    ranker is wrapped (see `ranker_wrap`). `now` is Unix seconds and names the release; `recall_target` is for recall@k,
    k cut to the number of items; `threads` is for building, speed is always measured on one; the index takes at most
    `max_bytes_per_item`, choosing and building it at most `max_build_seconds`; `exact` takes exact search without
    looking at other indexes; `lineage` fits JSON and is kept in the manifest beside what was found here, under
    "build". `searchable=False` leaves the catalogue's words and categories out, `report=False` the HTML page.

    Raises InvalidInput, ReleaseRefused, or OSError when the disk is full; then nothing is left behind.
    """
    budgets = {"max_bytes_per_item": max_bytes_per_item, "max_build_seconds": max_build_seconds}
    tuning = {"metric": metric, "recall_target": recall_target, "k": k, "seed": seed, "threads": threads, **budgets}
    _check(items, users, tuning)
    given = ranker if ranker is not None or model is None else model.ranker
    fitted = None if given is None else fit_ranker(given, "the ranker")
    progress("joining catalogue and model")
    shown = align_catalogue(catalogue, items.ids)
    learned = align_model(model, items.ids, users.ids)
    features = _features(learned, shown)
    words, categories = None, None
    if catalogue is not None and searchable:
        popularity = features[:, ITEM_FEATURES.index("log_purchases")]
        words, categories = index_payloads(shown.payloads, popularity, progress)
    item_vectors, user_vectors = normalise(items.vectors, metric), normalise(users.vectors, metric)
    tuned = tune(
        item_vectors,
        user_vectors,
        metric,
        target=recall_target,
        k=k,
        budgets=Budgets(max_bytes_per_item, max_build_seconds),
        seed=seed,
        threads=threads,
        exact=exact,
        scratch=releases if releases.is_dir() else None,
        progress=progress,
    )
    plan = plan_filters(
        tuned.index, item_vectors, user_vectors, metric, target=recall_target, k=tuned.k, seed=seed, progress=progress
    )
    own = _own_vectors(model, items, metric)
    facts = _facts(shown, learned, catalogue, model, tuned, {"seed": seed, "threads": threads})
    parts = Parts(
        item_ids=items.ids,
        user_ids=users.ids,
        item_vectors=item_vectors,
        user_vectors=user_vectors,
        metric=metric,
        index=tuned.index,
        index_info=_index_info(tuned, recall_target, now, plan),
        item_features=features,
        payloads=shown.payloads,
        recall_queries=tuned.report_queries,
        attributes=shown.attributes,
        item_times=shown.times,
        neighbours=learned.neighbours,
        complements=learned.complements,
        trending=learned.trending,
        category_trends=category_trends(learned.trending, categories, len(items.ids)),
        histories=learned.histories,
        words=words,
        categories=categories,
        fold_in=_fold_in(model, items) if own else None,
        trained_until=0.0 if model is None else model.as_of,
        ranker=fitted,
        spreads=model.spreads if model is not None and ranker is None else {},
        encoder=model.encoder if own and model is not None else None,
        lineage={**(lineage or {}), "build": facts},
    )
    if report:
        progress("drawing the report")
        # Drawing needs matplotlib, which takes its time to load.
        from tidings_index_builder.report import release_report

        parts = replace(parts, report=release_report(parts, tuned))
    progress("writing and validating the release")
    return write_release(releases, parts, now)


def _check(items: Embeddings, users: Embeddings, tuning: Mapping[str, Any]) -> None:
    """Raise InvalidInput naming all that is wrong with what was given."""
    violations: list[tuple[str, str]] = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: checked(TuneSettings, tuning),
        lambda: check_embeddings(items, "the embeddings", "items"),
        lambda: check_embeddings(users, "the embeddings", "users"),
    )
    for check in checks:
        try:
            check()
        except InvalidInput as error:
            violations.extend(error.violations)
    if not violations and items.vectors.shape[1] != users.vectors.shape[1]:
        dims = f"users have {users.vectors.shape[1]} dimensions, items {items.vectors.shape[1]}"
        violations.append(("users", f"{dims}; both must come from one model"))
    if violations:
        raise InvalidInput(*violations)


def _index_info(tuned: Tuned, recall_target: float, now: float, plan: FilterPlan) -> IndexInfo:
    winner = tuned.winner
    return IndexInfo(
        key=winner.key,
        parameters=winner.parameters,
        recall=tuned.recall,
        recall_k=tuned.k,
        recall_target=recall_target,
        recall_queries=len(tuned.report_queries),
        microseconds_per_query=winner.microseconds,
        bytes_per_item=winner.bytes_per_item,
        built_at=now,
        filter_plan=plan,
    )


def _own_vectors(model: Model | None, items: Embeddings, metric: Metric) -> bool:
    """Whether the vectors that are served are those the model was learned with."""
    # The cosine metric serves them at unit length, and so others.
    if model is None or metric == "cosine":
        return False
    rows = rows_of(items.ids, model.item_ids)
    return bool((rows >= 0).all()) and np.array_equal(items.vectors, model.item_vectors[rows])


def _fold_in(model: Model | None, items: Embeddings) -> FoldIn | None:
    """How vectors are folded in."""
    if model is None or model.fold_in is None:
        return None
    vectors = items.vectors.astype(np.float64)
    return FoldIn(vectors.T @ vectors, model.fold_in.alpha, model.fold_in.regularization)


def _features(learned: Learned, shown: Shown) -> Float32:
    category = keyword(shown.attributes, "category")
    codes = np.full(len(shown.prices), -1, np.int32) if category is None else category.codes
    return item_features(learned.statistics, shown.prices, codes)


def _facts(
    shown: Shown,
    learned: Learned,
    catalogue: Catalogue | None,
    model: Model | None,
    tuned: Tuned,
    settings: Mapping[str, int],
) -> dict[str, Any]:
    """What a build found, for the manifest."""
    return {
        "versions": versions("tidings", "faiss-cpu", "numpy"),
        **settings,
        "catalogue": None
        if catalogue is None
        else {
            "rows": len(catalogue.ids),
            "rows_without_embedding": shown.without_embedding,
            "items_without_row": shown.without_row,
            "notes": list(catalogue.notes),
        },
        "model": None
        if model is None
        else {
            "as_of": model.as_of,
            "items_known": learned.items_known,
            "users_known": learned.users_known,
            "lineage": model.lineage,
        },
        "tuning": tuned.facts(),
    }


def versions(*names: str) -> dict[str, str]:
    """The installed versions of packages, for a lineage."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
