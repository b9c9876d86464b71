"""From embeddings to ranked answers, through the commands and the client that a user has."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tidings
from tests.node.conftest import RunNode
from tests.node.conftest import node_modules as node_modules
from tests.node.conftest import recommend_from_node as recommend_from_node
from tests.support.server import start_server
from tests.support.world import World, make_world
from tidings_core.index import normalise
from tidings_core.model import METRICS, Metric
from tidings_core.release import open_release

ROOT = Path(__file__).parents[2]


def run(program: str, *arguments: object, status: int = 0) -> str:
    """Run one of the commands; returns its standard output."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == status, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def world() -> World:
    """A shop whose right answers are known: a user of group g likes the items of group g."""
    return make_world(items=900, users=400, groups=6)


@pytest.fixture(scope="module")
def inputs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What another trainer would hand over: .npy with ids for the items, Parquet for the users, a CSV catalogue."""
    folder = tmp_path_factory.mktemp("inputs")
    np.save(folder / "items.npy", world.parts.item_vectors)
    (folder / "items.txt").write_text("\n".join(world.parts.item_ids) + "\n")
    users = {"id": list(world.parts.user_ids), "embedding": list(world.parts.user_vectors)}
    pq.write_table(pa.table(users), folder / "users.parquet")
    rows = [
        f"item-{row},Thing {row},group-{group},{row / 10 + 1:.2f},EUR" for row, group in enumerate(world.group_of_item)
    ]
    (folder / "catalogue.csv").write_text("\n".join(["id,title,categories,price,currency", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def releases(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A releases directory with one release that the command built."""
    out = tmp_path_factory.mktemp("shop") / "releases"
    build(inputs, out)
    return out


def build(inputs: Path, out: Path, *more: object) -> str:
    """Build a release by the command; returns its name."""
    given = ("--items", inputs / "items.npy", "--item-ids", inputs / "items.txt", "--users", inputs / "users.parquet")
    said = run(
        "tidings-build-index", "build", *given, "--catalogue", inputs / "catalogue.csv", "--out", out, "--json", *more
    )
    return str(json.loads(said)["release_id"])


def test_embeddings_become_ranked_answers(world: World, releases: Path, tmp_path: Path) -> None:
    """Build, serve, promote, ask: the user of a group is answered with items of that group, titled and priced."""
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        (release,) = client.list_releases()
        assert release.state is tidings.ReleaseState.AVAILABLE
        assert run("tidings", "releases", "promote", release.release_id, "--server", server.address)
        for user in range(12):
            answer = client.recommend(f"user-{user}", k=5)
            groups = [int(world.group_of_item[int(item.item.item_id.removeprefix("item-"))]) for item in answer.items]
            assert groups == [user % 6] * 5
            row = int(answer.items[0].item.item_id.removeprefix("item-"))
            assert answer.items[0].item.title == f"Thing {row}"
            assert answer.items[0].item.price == pytest.approx(row / 10 + 1, abs=0.01)
            assert answer.items[0].reasons[0].code is tidings.ReasonCode.MATCHES_TASTE
        shown = run("tidings", "recommend", "user-3", "-k", "3", "--server", server.address)
        assert shown.count("group") == 0
        assert "Thing" in shown
        assert release.release_id in shown


async def test_the_asyncio_client_gets_the_same_answer(releases: Path, tmp_path: Path) -> None:
    """One server, two clients, one answer."""
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(client.list_releases()[0].release_id)
        async with tidings.aio.Client(server.address) as other:
            assert (await other.recommend("user-3")).items == client.recommend("user-3").items


def test_a_node_program_asks_the_real_server(releases: Path, tmp_path: Path, recommend_from_node: RunNode) -> None:
    """A client made from the .proto files alone gets what the Python client gets."""
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(client.list_releases()[0].release_id)
        status, answer = recommend_from_node(tidings.proto_dir(), server.address, "user-3", "4")
        expected = client.recommend("user-3", k=4)
        assert status == 0
        assert [item["item"]["item_id"] for item in answer["items"]] == [i.item.item_id for i in expected.items]
        assert [item["score"] for item in answer["items"]] == pytest.approx([i.score for i in expected.items])
        status, error = recommend_from_node(tidings.proto_dir(), server.address, "user-3", "0")
        assert (status, error["code"]) == (1, "INVALID_ARGUMENT")


def test_the_rebuild_script_promotes_a_new_release_and_rollback_returns(inputs: Path, tmp_path: Path) -> None:
    """One line saying promoted; the server answers from the new release, and from the old one after rollback."""
    first = build(inputs, tmp_path / "releases")
    config = tmp_path / "rebuild.toml"
    config.write_text(
        f'releases = "{tmp_path}/releases"\nitems = "{inputs}/items.npy"\nitem_ids = "{inputs}/items.txt"\n'
        f'users = "{inputs}/users.parquet"\n'
    )
    with start_server(tmp_path / "releases", tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(first)
        said = json.loads(run("tidings-build-index", "rebuild", "--config", config, "--server", server.address))
        assert said["outcome"] == "promoted"
        assert client.recommend("user-1").release_id == said["release_id"] != first
        run("tidings", "releases", "rollback", "--from", said["release_id"], "--server", server.address)
        assert client.recommend("user-1").release_id == first


def test_a_rebuild_that_fails_changes_nothing_that_serves(inputs: Path, tmp_path: Path) -> None:
    """Embeddings with a NaN: exit status 1, one line saying so, no new release, and the old one answers on."""
    first = build(inputs, tmp_path / "releases")
    vectors = np.load(inputs / "items.npy")
    vectors[7, 3] = np.nan
    np.save(tmp_path / "items.npy", vectors)
    config = tmp_path / "rebuild.toml"
    config.write_text(
        f'releases = "{tmp_path}/releases"\nitems = "{tmp_path}/items.npy"\nusers = "{inputs}/users.parquet"\n'
    )
    with start_server(tmp_path / "releases", tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(first)
        before = client.recommend("user-1").items
        said = run("tidings-build-index", "rebuild", "--config", config, "--server", server.address, status=1)
        assert json.loads(said)["outcome"] == "failed"
        assert "7" in json.loads(said)["error"]
        assert [release.release_id for release in client.list_releases()] == [first]
        assert client.recommend("user-1").items == before


@pytest.mark.parametrize("metric", METRICS)
def test_recall_in_the_manifest_is_what_plain_numpy_computes(metric: Metric, tmp_path: Path) -> None:
    """On the queries kept in the release, counted without FAISS; `evaluate` agrees."""
    rng = np.random.default_rng(3)
    items, users = rng.normal(size=(12_000, 24)).astype(np.float32), rng.normal(size=(600, 24)).astype(np.float32)
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "users.npy", users)
    given = ("--items", tmp_path / "items.npy", "--users", tmp_path / "users.npy", "--metric", metric)
    said = json.loads(run("tidings-build-index", "build", *given, "--k", 50, "--out", tmp_path / "out", "--json"))
    folder = tmp_path / "out" / said["release_id"]
    manifest = json.loads((folder / "manifest.json").read_text())
    queries = np.load(folder / "recall_queries.npy").astype(np.float64)
    vectors = normalise(items, metric).astype(np.float64)
    if metric == "l2":
        scores = -((vectors**2).sum(axis=1)[None] - 2 * queries @ vectors.T)
    else:
        scores = queries @ vectors.T
    true = np.argsort(-scores, axis=1)[:, :50]
    found = open_release(folder).snapshot.index.search(queries.astype(np.float32), 50)[0]
    by_hand = np.mean([len({*f.tolist()} & {*t.tolist()}) / 50 for f, t in zip(found, true, strict=True)])
    # Two items whose scores differ by less than a float32 tells may change places: one item in one query.
    assert manifest["index"]["recall"] == pytest.approx(by_hand, abs=1.5 / (50 * len(queries)))
    assert manifest["index"]["recall"] >= 0.95
    np.save(tmp_path / "queries.npy", queries.astype(np.float32))
    evaluated = json.loads(
        run("tidings-build-index", "evaluate", folder, "--queries", tmp_path / "queries.npy", "--k", 50, "--json")
    )
    assert evaluated["recall"] == pytest.approx(manifest["index"]["recall"], abs=1.5 / (50 * len(queries)))
