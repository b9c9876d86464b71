"""A real server folds its catalogue's changes back: under load, with changes meanwhile, and over a kill."""

import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.server.conftest import Shop
from tests.server.test_catalogue import Door, door, item, refusal
from tests.support.server import RunningServer, start_server
from tidings.v1 import release_service_pb2
from tidings_core.release import read_manifest

WAIT = 60.0


@contextmanager
def folding(shop: Shop, folder: Path, items: int, release: str = "") -> Iterator[tuple[RunningServer, Door]]:
    """A server that folds after so many described items, as often as it can."""
    config = folder / "server.toml"
    config.write_text(f"fold_items = {items}\nfold_every_seconds = 0\n")
    with start_server(shop.path, folder / "state", "--config", str(config)) as server, door(server) as ask:
        if release:
            ask.promote(release)
        yield server, ask


def serving_release(ask: Door) -> release_service_pb2.Release:
    """What serves."""
    releases = ask.releases.ListReleases(release_service_pb2.ListReleasesRequest(), timeout=WAIT).releases
    return next(one for one in releases if one.state == release_service_pb2.RELEASE_STATE_SERVING)


def wait_for_fold(ask: Door, before: str) -> release_service_pb2.Release:
    """Wait until another release than the one before serves."""
    end = time.monotonic() + WAIT
    while (serving := serving_release(ask)).release_id == before:
        assert time.monotonic() < end, "nothing was folded"
        time.sleep(0.05)
    return serving


def test_a_delta_that_has_grown_is_folded_back_while_changes_go_on(shop: Shop, tmp_path: Path) -> None:
    """Every change is found all the time, before the fold, during it and after; the release holds what was folded."""
    ended = threading.Event()
    acknowledged: list[str] = []
    faults: list[str] = []
    with folding(shop, tmp_path, 20, shop.a) as (server, ask):

        def work() -> None:
            with door(server) as own:
                number = 0
                while not ended.is_set():
                    name = f"fold{number}"
                    token = own.upsert(item(name, 1, title=f"Title{number}", price=number)).consistency_token
                    acknowledged.append(name)
                    probe = number * 7 % len(acknowledged)
                    missed = [at for at in (number, probe) if own.found(f"title{at}", token) != [f"fold{at}"]]
                    faults.extend(f"{at} after {number}" for at in missed)
                    number += 1

        ask.delete(1, "item-3")
        ask.upsert(item("item-4", 1, price=4.5), mask=["price"])
        worker = threading.Thread(target=work)
        worker.start()
        try:
            first = wait_for_fold(ask, shop.a)
            second = wait_for_fold(ask, first.release_id)
        finally:
            ended.set()
            worker.join(WAIT)
        assert not faults
        assert second.item_count > first.item_count >= 319
        manifest = read_manifest(shop.path / second.release_id)
        assert manifest.lineage["folded"]["from"] == first.release_id
        assert manifest.vector_space == read_manifest(shop.path / shop.a).vector_space
        assert ask.get("item-4").item.price == 4.5
        assert refusal(ask.get, "item-3")[0] == grpc.StatusCode.NOT_FOUND
        for name in acknowledged:
            assert ask.get(name).item.item_id == name
        assert server.metric('tidings_folds_total{outcome="done"}') >= 2


def test_an_older_release_that_takes_over_is_folded_without_another_change(shop: Shop, tmp_path: Path) -> None:
    """All that was changed since it was built is on top of it again: it may be so much that no change is taken."""
    with folding(shop, tmp_path, 20, shop.a) as (server, ask):
        ask.upsert(*(item(f"r{number}", 1, title=f"Resumed{number}") for number in range(20)))
        first = wait_for_fold(ask, shop.a)
        ask.promote(shop.a)
        end = time.monotonic() + WAIT
        while (second := serving_release(ask)).release_id in (shop.a, first.release_id):
            assert time.monotonic() < end, "nothing was folded"
            time.sleep(0.05)
        assert read_manifest(shop.path / second.release_id).lineage["folded"]["from"] == shop.a
        assert ask.found("resumed7") == ["r7"]
        assert server.metric('tidings_folds_total{outcome="done"}') == 2


def test_a_kill_while_folding_loses_nothing(shop: Shop, tmp_path: Path) -> None:
    """The server is killed while the process works: after the next start all is there, and the fold is made anew."""
    with folding(shop, tmp_path, 1000, shop.a) as (server, ask):
        for number in range(30):
            ask.upsert(item(f"k{number}", 1, title=f"Kill{number}"))
    with folding(shop, tmp_path, 20) as (server, ask):
        end = time.monotonic() + WAIT
        while not (tmp_path / "state" / "fold.unfinished").exists():
            assert time.monotonic() < end
            assert serving_release(ask).release_id == shop.a
        server.process.kill()
        server.process.wait()
    with folding(shop, tmp_path, 20) as (_, ask):
        for number in range(30):
            assert ask.found(f"kill{number}") == [f"k{number}"]
        wait_for_fold(ask, shop.a)
        for number in range(30):
            assert ask.found(f"kill{number}") == [f"k{number}"]


def test_more_than_there_is_room_for_is_refused_and_prices_are_not(shop: Shop, tmp_path: Path) -> None:
    """With folding off the delta grows to its limit: RESOURCE_EXHAUSTED says what to do; what needs no room goes on."""
    config = tmp_path / "server.toml"
    config.write_text("fold = false\n")
    with start_server(shop.path, tmp_path / "state", "--config", str(config)) as server, door(server) as ask:
        ask.promote(shop.a)
        for start in range(0, 10_000, 1000):
            ask.upsert(*(item(f"n{number}", 1, title="Many") for number in range(start, start + 1000)))
        with pytest.raises(grpc.RpcError) as refused:
            ask.upsert(item("one-more", 1, title="Many"))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "fold" in (refused.value.details() or "")
        ask.upsert(item("n5", 2, title="Again"))
        ask.upsert(*(item(f"n{number}", 3, price=1) for number in range(1000)), mask=["price"])
        assert ask.delete(3, "n7") == ["DELETED"]
        assert (ask.found("again"), ask.get("n9").item.price) == (["n5"], 1.0)


def test_changes_are_exported_and_folded_by_hand(shop: Shop, tmp_path: Path) -> None:
    """The command that is printed makes a release, which holds all and serves all."""
    state = tmp_path / "state"
    with start_server(shop.path, state) as server, door(server) as ask:
        ask.promote(shop.a)
        ask.upsert(item("by-hand", 1, title="Manual"))
        scripts = Path(sys.executable).parent
        given = ["export-changes", str(shop.path / shop.a), "--out", str(tmp_path / "changes"), "--state", str(state)]
        printed = subprocess.run([scripts / "tidings-server", *given], capture_output=True, text=True, check=True)
        command, *rest = shlex.split(printed.stdout)
        folded = subprocess.run([scripts / command, *rest], capture_output=True, text=True, check=True)
        ask.promote(json.loads(folded.stdout)["release_id"])
        assert (ask.found("manual"), serving_release(ask).item_count) == (["by-hand"], 301)
        assert server.metric('tidings_delta_items{kind="described"}') == 0


def test_of_two_words_of_one_time_a_deletion_wins_also_over_what_was_folded(shop: Shop, tmp_path: Path) -> None:
    """An item that a release describes is gone when it is deleted at that very time, whatever price came later."""
    with folding(shop, tmp_path, 20, shop.a) as (_, ask):
        ask.upsert(*(item(f"t{number}", 5, title=f"Tied{number}") for number in range(20)))
        ask.upsert(item("t6", 9, price=4.5), mask=["price"])
        wait_for_fold(ask, shop.a)
        ask.delete(5, "t5", "t6")
        ask.delete(4, "t7")
        for name in ("t5", "t6"):
            assert refusal(ask.get, name)[0] == grpc.StatusCode.NOT_FOUND
        assert ask.get("t7").item.title == "Tied7"
