"""A small generated shop whose right answers are known by construction, as a release on disk or in memory.

Items fall into groups; every user likes one group; vectors of a group point one way, so the nearest items of a user are
those of the user's group.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidings.v1 import item_pb2
from tidings_core.attributes import Keyword, Number, Tags
from tidings_core.features import CANDIDATE_FEATURES, DAY, ITEM_FEATURES, USER_FEATURES, ItemStatistics, item_features
from tidings_core.index import build_index, normalise
from tidings_core.model import FoldIn, Histories, Metric, Neighbours, Snapshot, Trending
from tidings_core.ranker import OnnxRanker
from tidings_core.release import IndexInfo, Manifest, Parts, user_norm, write_release
from tidings_core.tables import BytesTable, IdTable
from tidings_core.text import reweighted
from tidings_index_builder.postings import index_payloads

NOW = 1_700_000_000.0
"""Unix seconds at which the generated releases are built."""


def linear_ranker(
    item: dict[str, float],
    user: dict[str, float],
    candidate: dict[str, float],
    attributes: dict[str, float] | None = None,
) -> bytes:
    """An ONNX ranker with the release's signature whose score is a weighted sum of named features.

    With `attributes` it asks for those columns of users' attributes, and their sum turns the item's share of the score.
    """
    from onnx import TensorProto, helper, numpy_helper

    def weights(names: tuple[str, ...], given: dict[str, float]) -> NDArray[np.float32]:
        assert set(given) <= set(names)
        return np.array([[given.get(name, 0.0)] for name in names], np.float32)

    of_users = attributes or {}
    width = len(USER_FEATURES) + len(of_users)
    constants: dict[str, NDArray[Any]] = {
        "item_weights": weights(ITEM_FEATURES, item),
        "user_weights": np.concatenate(
            [weights(USER_FEATURES, user), np.array([[one] for one in of_users.values()], np.float32).reshape(-1, 1)]
        ),
        "candidate_weights": weights(CANDIDATE_FEATURES, candidate),
        "last": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["item_features", "item_weights"], ["by_item"]),
        helper.make_node("Squeeze", ["by_item", "last"], ["of_items"]),
        helper.make_node("Gather", ["of_items", "item_rows"], ["from_item"]),
        helper.make_node("MatMul", ["user_features", "user_weights"], ["from_user"]),
        helper.make_node("MatMul", ["candidate_features", "candidate_weights"], ["by_candidate"]),
        helper.make_node("Squeeze", ["by_candidate", "last"], ["from_candidate"]),
        helper.make_node("Add", ["from_item", "from_candidate"], ["of_pair"]),
        helper.make_node("Add", ["of_pair", "from_user"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [
            helper.make_tensor_value_info("item_rows", TensorProto.INT64, ["B", "K"]),
            helper.make_tensor_value_info("item_features", TensorProto.FLOAT, ["N", len(ITEM_FEATURES)]),
            helper.make_tensor_value_info("user_features", TensorProto.FLOAT, ["B", width]),
            helper.make_tensor_value_info("candidate_features", TensorProto.FLOAT, ["B", "K", len(CANDIDATE_FEATURES)]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B", "K"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if of_users:
        # Added to every item's score the user's columns would order nothing: there they are a factor.
        (add,) = [node for node in model.graph.node if node.output[0] == "score"]
        add.op_type = "Mul"
        helper.set_model_props(model, {"tidings.user_attributes": json.dumps(list(of_users))})
    return bytes(model.SerializeToString())


BY_VECTOR = {"vector_score": 1.0}
"""Candidate weights of a ranker that trusts the vectors alone."""


@dataclass(frozen=True)
class World:
    """A generated shop: `group_of_item` i64[N], `prices` f32[N], `group_of_user` i64[U], and its release's parts."""

    group_of_item: NDArray[np.int64]
    prices: NDArray[np.float32]
    group_of_user: NDArray[np.int64]
    parts: Parts

    def write(self, releases: Path, now: float = NOW) -> Manifest:
        """Write the release into a releases directory."""
        return write_release(releases, self.parts, now)

    def snapshot(self) -> Snapshot:
        """The same in memory, without files."""
        parts = self.parts
        return Snapshot(
            items=IdTable.of(parts.item_ids),
            users=IdTable.of(parts.user_ids),
            item_vectors=parts.item_vectors,
            user_vectors=parts.user_vectors,
            metric=parts.metric,
            index=parts.index,
            item_features=parts.item_features,
            payloads=BytesTable.of(parts.payloads),
            attributes=parts.attributes,
            neighbours=parts.neighbours,
            complements=parts.complements,
            trending=parts.trending,
            category_trends=parts.category_trends,
            histories=parts.histories,
            ranker=None if parts.ranker is None else OnnxRanker(parts.ranker, parts.item_features),
            words=parts.words,
            categories=parts.categories,
            fold_in=parts.fold_in,
            trained_until=parts.trained_until,
            user_norm=user_norm(parts.user_vectors),
        )


def _gram(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return vectors.astype(np.float64).T @ vectors


def make_world(
    items: int = 300,
    users: int = 60,
    dim: int = 16,
    groups: int = 6,
    metric: Metric = "inner_product",
    seed: int = 0,
    ranked: bool = True,
    bare: bool = False,
    bought: int = 5,
) -> World:
    """Generate a shop. `bare` leaves out everything but vectors and index; each user bought `bought` items.

    Item 8 of 6 groups is titled "Group 2 thing 8" and stands in the category "group-2"; the most popular items of a
    category come first. It is bought together with items 9 and 15. With the inner product vectors are folded in as
    implicit does it.
    """
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(dim, groups)))[0].T
    group_of_item = np.arange(items) % groups
    group_of_user = np.arange(users) % groups
    item_vectors = normalise((centres[group_of_item] + rng.normal(0, 0.1, (items, dim))).astype(np.float32), metric)
    user_vectors = normalise((centres[group_of_user] + rng.normal(0, 0.1, (users, dim))).astype(np.float32), metric)
    prices = rng.uniform(1, 100, items).round(2).astype(np.float32)
    item_ids = [f"item-{row}" for row in range(items)]
    titles = [f"Group {group} thing {row}" for row, group in enumerate(group_of_item)]
    payloads = [
        item_pb2.Item(
            item_id=item_id, title=title, categories=[f"group-{group}"], price=float(price), currency="EUR"
        ).SerializeToString()
        for item_id, title, group, price in zip(item_ids, titles, group_of_item, prices, strict=True)
    ]
    index = build_index("Flat", item_vectors, metric, {})
    near = index.search(item_vectors, 11)
    others = near[0] != np.arange(items)[:, None]
    categories = group_of_item.astype(np.int32)
    purchases = rng.integers(0, 50, items).astype(np.float64)
    statistics = ItemStatistics(
        purchases, purchases / 8, purchases / 3, purchases / 1.5, purchases / 2, rng.uniform(1, 300, items)
    )
    order = np.argsort(-purchases, kind="stable").astype(np.int32)
    history = np.concatenate(
        [rng.choice(np.flatnonzero(group_of_item == group), bought, False) for group in group_of_user]
    )
    times = np.concatenate([np.sort(NOW - rng.uniform(1, 200, bought) * DAY)[::-1] for _ in group_of_user])
    block = item_features(statistics, prices, categories)
    words, tags = index_payloads(payloads, block[:, ITEM_FEATURES.index("log_purchases")])
    extra = (
        {}
        if bare
        else {
            "attributes": {
                "category": Keyword.of([f"group-{group}" for group in group_of_item]),
                "categories": Tags.of([(f"group-{group}",) for group in group_of_item]),
                "price": Number(prices.astype(np.float64)),
            },
            "neighbours": Neighbours(
                np.where(others, near[0], -1).astype(np.int32), np.where(others, near[1], 0).astype(np.float32)
            ),
            "complements": Neighbours(
                ((np.arange(items)[:, None] + [1, groups + 1]) % items).astype(np.int32),
                np.full((items, 2), [2.0, 1.0], np.float32),
            ),
            "category_trends": None if tags is None else reweighted(tags, purchases.astype(np.float32)),
            "trending": Trending(order, purchases[order].astype(np.float32)),
            "histories": Histories(
                np.arange(0, users * bought + 1, bought, dtype=np.int64),
                history.astype(np.int32),
                times.astype(np.int64),
                np.ones(users * bought, np.float32),
            ),
            "ranker": linear_ranker({}, {}, BY_VECTOR) if ranked else None,
            "words": words,
            "categories": tags,
            "fold_in": FoldIn(_gram(item_vectors), 4.0, 1.0) if metric == "inner_product" else None,
            "trained_until": NOW,
        }
    )
    parts = Parts(
        item_ids=item_ids,
        user_ids=[f"user-{row}" for row in range(users)],
        item_vectors=item_vectors,
        user_vectors=user_vectors,
        metric=metric,
        index=index,
        index_info=IndexInfo("Flat", {}, 1.0, 100, 0.95, min(users, 50), 10.0, dim * 4.0, NOW),
        item_features=block,
        payloads=payloads,
        recall_queries=user_vectors[:50],
        **extra,  # type: ignore[arg-type]
    )
    return World(group_of_item, prices, group_of_user, parts)
