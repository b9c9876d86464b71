"""A generated shop of any size, as a release: clustered vectors, skewed popularity, a ranker of realistic cost."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tidings.v1 import item_pb2
from tidings_core.attributes import Keyword
from tidings_core.features import (
    CANDIDATE_FEATURES,
    DAY,
    ITEM_FEATURES,
    USER_FEATURES,
    ItemStatistics,
    item_features,
)
from tidings_core.index import FaissIndex, build_index, exact_search, recall
from tidings_core.model import Histories, Neighbours, Trending
from tidings_core.release import IndexInfo, Manifest, Parts, write_release
from tidings_core.tables import BytesTable, Float32
from tidings_index_builder.postings import index_payloads
from tidings_index_builder.tune import tune

RANKER_LAYERS = (256, 128)
"""Hidden layers of the ranker: the size that the floor F0 is quoted for."""

AT_ONCE = 65_536


def mlp_ranker(seed: int) -> bytes:
    """An MLP of random weights with the release's signature."""
    rng = np.random.default_rng(seed)
    first, second = RANKER_LAYERS
    shapes = {
        "by_item": (len(ITEM_FEATURES), first),
        "by_user": (len(USER_FEATURES), first),
        "by_pair": (len(CANDIDATE_FEATURES), first),
        "middle": (first, second),
        "last": (second, 1),
    }
    constants = [
        numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    constants += [numpy_helper.from_array(np.array([axis]), f"axis{axis}") for axis in (1, 2)]
    steps = [
        ("Gather", ["item_features", "item_rows"], "items"),
        ("MatMul", ["items", "by_item"], "a"),
        ("MatMul", ["user_features", "by_user"], "b"),
        ("Unsqueeze", ["b", "axis1"], "b3"),
        ("MatMul", ["candidate_features", "by_pair"], "c"),
        ("Add", ["a", "c"], "ac"),
        ("Add", ["ac", "b3"], "abc"),
        ("Relu", ["abc"], "h1"),
        ("MatMul", ["h1", "middle"], "m"),
        ("Relu", ["m"], "h2"),
        ("MatMul", ["h2", "last"], "s"),
        ("Squeeze", ["s", "axis2"], "score"),
    ]
    axes: list[tuple[str, int, list[str | int]]] = [
        ("item_rows", TensorProto.INT64, ["B", "K"]),
        ("item_features", TensorProto.FLOAT, ["N", len(ITEM_FEATURES)]),
        ("user_features", TensorProto.FLOAT, ["B", len(USER_FEATURES)]),
        ("candidate_features", TensorProto.FLOAT, ["B", "K", len(CANDIDATE_FEATURES)]),
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output]) for operator, inputs, output in steps],
        "mlp",
        [helper.make_tensor_value_info(*axis) for axis in axes],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B", "K"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def clustered(rng: np.random.Generator, count: int, dim: int, clusters: int) -> NDArray[np.float32]:
    """Vectors f32[count, dim] in clusters of skewed sizes, with lengths that vary. Made in parts, to save memory."""
    spread = (1.0 / np.sqrt(1.0 + np.arange(dim))).astype(np.float32)
    centres = rng.standard_normal((clusters, dim), np.float32) * spread
    sizes = 1.0 / (1.0 + np.arange(clusters))
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, AT_ONCE):
        part = vectors[start : start + AT_ONCE]
        of = rng.choice(clusters, len(part), p=sizes / sizes.sum())
        part[:] = centres[of] + 0.3 * rng.standard_normal(part.shape, np.float32) * spread
        part *= rng.lognormal(0.0, 0.2, (len(part), 1)).astype(np.float32)
    return vectors


def _quick_index(vectors: Float32, queries: Float32, seed: int) -> tuple[FaissIndex, float]:
    lists = max(1, 1 << int(np.log2(4 * np.sqrt(len(vectors))) - 1))
    true = exact_search(vectors, queries, 100, "inner_product")[0]
    index = build_index(f"IVF{lists},SQfp16", vectors, "inner_product", {}, seed)
    for nprobe in (*range(4, 32, 4), *range(32, 160, 8), lists):
        index = index.with_parameters({"nprobe": min(nprobe, lists)})
        reached = recall(index.search(queries, 100)[0], true)
        if reached >= 0.955:
            break
    return index, reached


def write_shop(
    releases: Path,
    items: int,
    users: int,
    now: float,
    dim: int = 64,
    seed: int = 0,
    searchable: bool = False,
    tuned: bool = False,
    similar: int = 50,
) -> Manifest:
    """Write the release of a generated shop: IVF and fp16, with nprobe raised until recall@100 passes .95.

    With `tuned` the index is the one that the builder chooses; with `searchable` its words are indexed too. `similar`
    is the number of each item's neighbours.
    """
    rng = np.random.default_rng(seed)
    item_vectors = clustered(rng, items, dim, 200)
    mixed = item_vectors[rng.integers(0, items, (users, 4))].mean(axis=1)
    user_vectors = (mixed + 0.1 * rng.normal(size=mixed.shape)).astype(np.float32)
    queries = user_vectors[rng.choice(users, min(users, 300), False)]
    if tuned:
        chosen = tune(item_vectors, user_vectors, "inner_product", target=0.95, k=100, seed=seed)
        index, reached, queries = chosen.index, chosen.recall, chosen.report_queries
    else:
        index, reached = _quick_index(item_vectors, queries, seed)
    prices = rng.lognormal(2.0, 1.0, items).astype(np.float32)
    categories = rng.integers(0, 50, items).astype(np.int32)
    purchases = rng.pareto(1.2, items) * 5.0
    order = np.argsort(-purchases)[:1000].astype(np.int32)
    near = rng.integers(0, items, (items, similar), np.int32)
    bought = 20
    payloads = [
        item_pb2.Item(
            item_id=f"item-{row}", title=f"A thing of the shop, number {row}", price=float(price), currency="EUR"
        ).SerializeToString()
        for row, price in enumerate(prices)
    ]
    parts = Parts(
        item_ids=[f"item-{row}" for row in range(items)],
        user_ids=[f"user-{row}" for row in range(users)],
        item_vectors=item_vectors,
        user_vectors=user_vectors,
        metric="inner_product",
        index=index,
        index_info=IndexInfo(index.key, index.parameters, reached, 100, 0.95, len(queries), 0.0, dim * 2.0 + 8, now),
        item_features=item_features(
            ItemStatistics(
                purchases, purchases / 20, purchases / 8, purchases / 3, purchases, rng.uniform(1, 700, items)
            ),
            prices,
            categories,
        ),
        payloads=payloads,
        words=index_payloads(payloads, purchases.astype(np.float32))[0] if searchable else None,
        recall_queries=queries,
        attributes={"category": Keyword(categories, BytesTable.of([b"category-%02d" % code for code in range(50)]))},
        neighbours=Neighbours(near, np.sort(rng.random(near.shape, np.float32))[:, ::-1]),
        trending=Trending(order, purchases[order].astype(np.float32)),
        histories=Histories(
            np.arange(0, users * bought + 1, bought, dtype=np.int64),
            rng.integers(0, items, users * bought).astype(np.int32),
            np.full(users * bought, int(now - 20 * DAY), np.int64),
            np.ones(users * bought, np.float32),
        ),
        ranker=mlp_ranker(seed),
        lineage={"generated": {"items": items, "users": users, "dim": dim, "seed": seed}},
    )
    return write_release(releases, parts, now)
