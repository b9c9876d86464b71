"""Proof for carts: of an order of later days a part is shown, and the rest is to be named."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_core.model import (
    DEFAULT_K,
    MAX_BATCH,
    MAX_CONTEXT_ITEMS,
    SERVING_CONFIGS,
    Answer,
    Query,
    ServingConfig,
    Snapshot,
    SourceUse,
)
from tidings_core.recommend import recommend
from tidings_core.tables import Float64, Int32
from tidings_training import popularity
from tidings_training.complements import orders_of
from tidings_training.evaluate import METRICS, Difference, differences, measure
from tidings_training.events import Events
from tidings_training.proof.bootstrap import CONFIDENCE, RESAMPLES
from tidings_training.trainer import Trainer

AT = DEFAULT_K
SHOWN = 0.5
"""So much of an order is the cart that is shown, at least one item of it and at most 64."""
ORDERS_LIMIT = 20_000
"""Of more orders a random choice is evaluated."""
SOURCES = ("complement", "similar")


@dataclass(frozen=True, slots=True, kw_only=True)
class CartEvaluation:
    """What was measured. Fits JSON after `dataclasses.asdict`.

    `split` and `end` are Unix seconds: everything was learned up to `split`, and the orders are those after it and up
    to `end`. `means` maps a contender to its metrics.
    """

    split: float
    end: float
    at: int
    orders: int
    """Orders of the holdout."""
    evaluated: int
    """Those of them with two items or more that were known before."""
    to_find: int
    """Items that were held back, all orders together."""
    means: dict[str, dict[str, float]]
    differences: list[Difference]
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES


def evaluate_carts(trainer: Trainer, end: float, holdout_days: float) -> CartEvaluation:
    """Hold the orders of the last days before `end` (Unix seconds) out, and name the rest of each from a part of it.

    Contenders, asked through `tidings_core.recommend`: the serving configs `cart` and `goes-with`, the sources
    `complement` and `similar` each alone, `trending`, and `popularity` (purchases ever). The part that is shown is
    drawn with the trainer's seed. Raises InvalidInput when there is nothing to compare on.
    """
    split = end - holdout_days * DAY
    snapshot = trainer.snapshot(split)
    carts = [] if snapshot is None else _carts(snapshot, trainer.events.between(split, end), trainer.settings.seed)
    if snapshot is None or not carts:
        raise InvalidInput(
            (
                "holdout_days",
                f"{holdout_days:g} days hold no order of two known items, or leave too few events before them: choose "
                "others with --holdout-days",
            )
        )
    orders = len(orders_of(trainer.events.between(split, end))[0])
    known_before = trainer.events.between(float("-inf"), split)
    measured: dict[str, Float64] = {}
    for name, (serving, served) in _contenders(snapshot, known_before, split).items():
        answers = _ask(carts, serving, served, split, trainer, f"asking {name}")
        measured[name] = measure(answers, [rest for _, rest in carts])
    return CartEvaluation(
        split=split,
        end=end,
        at=AT,
        orders=orders,
        evaluated=len(carts),
        to_find=sum(len(rest) for _, rest in carts),
        means={name: dict(zip(METRICS, found.mean(axis=0).tolist(), strict=True)) for name, found in measured.items()},
        differences=differences(measured, _pairs(measured), trainer.settings.seed),
    )


def _carts(snapshot: Snapshot, later: Events, seed: int) -> list[tuple[Int32, Int32]]:
    """Of each order of two known items or more the rows that are shown and the rows to find."""
    rng = np.random.default_rng(seed)
    rows = snapshot.items.find_many(later.item_ids)
    starts, items = orders_of(later)
    orders = [part[part >= 0] for part in np.split(rows[items], starts[1:])]
    orders = [part for part in orders if len(part) >= 2]
    if len(orders) > ORDERS_LIMIT:
        orders = [orders[at] for at in np.sort(rng.choice(len(orders), ORDERS_LIMIT, replace=False))]
    carts = []
    for part in orders:
        mixed = rng.permutation(part)
        shown = min(max(1, int(len(part) * SHOWN)), MAX_CONTEXT_ITEMS)
        carts.append((mixed[:shown], mixed[shown:]))
    return carts


def _contenders(snapshot: Snapshot, events: Events, now: float) -> dict[str, tuple[ServingConfig, Snapshot]]:
    def alone(name: str) -> ServingConfig:
        return ServingConfig(name, (SourceUse(name, AT),), rerank=False, exclude_bought=False)

    ever = dataclasses.replace(snapshot, trending=popularity.trending(events, now, np.inf))
    return {
        "cart": (SERVING_CONFIGS["cart"], snapshot),
        "goes-with": (SERVING_CONFIGS["goes-with"], snapshot),
        **{name: (alone(name), snapshot) for name in SOURCES},
        "trending": (alone("trending"), snapshot),
        "popularity": (alone("trending"), ever),
    }


def _ask(
    carts: Sequence[tuple[Int32, Int32]],
    serving: ServingConfig,
    snapshot: Snapshot,
    now: float,
    trainer: Trainer,
    step: str,
) -> list[Answer]:
    answers: list[Answer] = []
    for start in range(0, len(carts), MAX_BATCH):
        # Nobody in particular: what a customer bought before would tell more than the cart.
        batch = [
            Query("", serving, AT, [snapshot.items[row] for row in shown.tolist()])
            for shown, _ in carts[start : start + MAX_BATCH]
        ]
        answers += recommend(batch, snapshot, now)
        trainer.progress(step, len(answers), len(carts))
    return answers


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Everyone against popularity, and `cart` and `complement` against `similar`."""
    return [(name, "popularity") for name in names if name != "popularity"] + [
        ("cart", "similar"),
        ("complement", "similar"),
    ]
