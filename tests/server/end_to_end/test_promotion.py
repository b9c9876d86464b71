"""Promoting and rolling back on a running server, under load and with spoilt releases."""

import shutil
import threading
from collections import Counter
from pathlib import Path

import grpc
import pytest

from tests.server.conftest import Shop
from tests.server.end_to_end.conftest import Stubs, reason, stubs
from tests.support.server import start_server
from tidings.v1 import recommendation_service_pb2 as pb
from tidings.v1 import release_service_pb2 as releases_pb


def rollback(ask: Stubs, left: str = "") -> releases_pb.RollbackReleaseResponse:
    """Roll back."""
    return ask.release.RollbackRelease(releases_pb.RollbackReleaseRequest(from_release_id=left), timeout=60)


def test_releases_are_listed_promoted_and_rolled_back(shop: Shop, tmp_path: Path) -> None:
    """The whole of ReleaseService, with a broken release among the listed."""
    with start_server(shop.path, tmp_path / "state") as server, stubs(server) as ask:
        (shop.path / shop.c / "manifest.json").write_text("{}")
        assert ask.promote(shop.a).previous_release_id == ""
        promoted = ask.promote(shop.b)
        assert promoted.previous_release_id == shop.a
        assert promoted.release.state == releases_pb.RELEASE_STATE_SERVING
        assert promoted.release.promote_time.ToSeconds() > promoted.release.create_time.ToSeconds() > 0
        listed = ask.release.ListReleases(releases_pb.ListReleasesRequest(), timeout=30).releases
        assert [(one.release_id, one.state) for one in listed] == [
            (shop.c, releases_pb.RELEASE_STATE_BROKEN),
            (shop.b, releases_pb.RELEASE_STATE_SERVING),
            (shop.a, releases_pb.RELEASE_STATE_AVAILABLE),
        ]
        assert "format" in listed[0].problem
        assert listed[1] == promoted.release
        b = listed[1]
        assert (b.item_count, b.user_count, b.dim, b.metric, b.index_key) == (300, 60, 16, "inner_product", "Flat")
        assert (b.recall, b.recall_k, b.ranked) == (1.0, 100, True)
        assert {"ann", "similar", "trending", "recent", "search", "tagged"} <= set(b.sources)
        back = rollback(ask, shop.b)
        assert (back.release.release_id, back.previous_release_id) == (shop.a, shop.b)
        for left in ("", shop.b):
            with pytest.raises(grpc.RpcError) as raised:
                rollback(ask, left)
            assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert reason(raised.value) == "CONFLICT"
        assert server.metric('tidings_promotions_total{operation="promote",outcome="done"}') == 2
        assert server.metric('tidings_promotions_total{operation="rollback",outcome="CONFLICT"}') == 2


def test_a_spoilt_release_is_refused_with_its_reason_and_the_old_one_answers(shop: Shop, tmp_path: Path) -> None:
    """Truncated, edited, half-written, foreign, renamed, absent, or no name at all."""
    index = shop.path / shop.b / "index.faiss"
    whole = index.read_bytes()
    shutil.copytree(shop.path / shop.c, shop.path / "20300101T000000Z-copy")
    (shop.path / "20300101T000000Z-half").mkdir()
    (shop.path / "20300101T000000Z-alien").mkdir()
    (shop.path / "20300101T000000Z-alien" / "manifest.json").write_text('{"name": "left-pad"}')
    with start_server(shop.path, tmp_path / "state") as server, stubs(server) as ask:
        ask.promote(shop.a)
        index.write_bytes(whole[: len(whole) // 2])
        refusals = {
            shop.b: ("FAILED_PRECONDITION", "RELEASE_REFUSED", "index.faiss has"),
            "20300101T000000Z-copy": ("FAILED_PRECONDITION", "RELEASE_REFUSED", "renamed"),
            "20300101T000000Z-half": ("FAILED_PRECONDITION", "RELEASE_REFUSED", "not a finished release"),
            "20300101T000000Z-alien": ("FAILED_PRECONDITION", "RELEASE_REFUSED", "format"),
            "20300101T000000Z-none": ("NOT_FOUND", "NOT_FOUND", "there is no release"),
            "../state": ("INVALID_ARGUMENT", "INVALID_INPUT", "release_id"),
            "": ("INVALID_ARGUMENT", "INVALID_INPUT", "release_id"),
        }
        for release_id, (code, why, said) in refusals.items():
            with pytest.raises(grpc.RpcError) as raised:
                ask.promote(release_id)
            assert (raised.value.code().name, reason(raised.value)) == (code, why), release_id
            assert said in str(raised.value.details())
            answer = ask.recommendation.Recommend(pb.RecommendRequest(user_id="user-1"), timeout=30)
            assert (answer.release_id, len(answer.items)) == (shop.a, 20)
        index.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
        with pytest.raises(grpc.RpcError) as raised:
            ask.promote(shop.b)
        assert "SHA-256" in str(raised.value.details())
        index.write_bytes(whole)
        assert ask.promote(shop.b).release.release_id == shop.b
        refused = [line for line in server.logged() if line["event"] == "promote refused"]
        assert len(refused) == len(refusals) + 1


def test_swaps_under_load_fail_no_call(front: str, shop: Shop, tmp_path: Path) -> None:
    """While releases are promoted and rolled back, every call is answered in full, from one of them."""
    with start_server(shop.path, tmp_path / "state", "--front", front) as server, stubs(server) as ask:
        ask.promote(shop.a)
        over = threading.Event()
        seen: Counter[str] = Counter()
        troubles: list[object] = []

        def load(worker: int) -> None:
            with stubs(server) as own:
                number = worker
                while not over.is_set():
                    number += 4
                    request = pb.RecommendRequest(user_id=f"user-{number % 60}", k=10)
                    try:
                        answer = own.recommendation.Recommend(request, timeout=30)
                    except grpc.RpcError as error:
                        troubles.append(error)
                        return
                    if len(answer.items) != 10 or answer.degraded:
                        troubles.append(answer)
                    seen[answer.release_id] += 1

        workers = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        for _ in range(5):
            ask.promote(shop.b)
            ask.promote(shop.c)
            rollback(ask, shop.c)
            ask.promote(shop.a)
        over.set()
        for worker in workers:
            worker.join()
        assert troubles == []
        assert set(seen) == {shop.a, shop.b, shop.c}
        assert sum(seen.values()) > 20
