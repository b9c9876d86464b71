"""Releases change under load and nobody notices."""

import threading
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

import tidings
from tests.support.server import RunningServer, start_server
from tests.support.world import NOW, make_world
from tidings.v1 import recommendation_service_pb2 as pb

ITEMS, USERS = 20_000, 2_000


class Load:
    """Calls for random users from a few threads, without retries, until told to stop."""

    def __init__(self, server: RunningServer, threads: int) -> None:
        self.calls = 0
        self.problems: list[str] = []
        self.seen: set[str] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(server.address, seed)) for seed in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, address: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        # A retry would hide a failed call, so the stub is used without the client's retry policy.
        with grpc.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/tidings.v1.RecommendationService/Recommend"
            )
            while not self._stop.is_set():
                request = pb.RecommendRequest(user_id=f"user-{rng.integers(USERS)}", k=10)
                try:
                    answer = pb.RecommendResponse.FromString(call(request.SerializeToString(), timeout=10))
                except grpc.RpcError as error:
                    with self._lock:
                        self.problems.append(str(error))
                    continue
                with self._lock:
                    self.calls += 1
                    self.seen.add(answer.release_id)
                    if len(answer.items) != 10 or answer.degraded:
                        self.problems.append(f"{len(answer.items)} items, degraded {answer.degraded}")


@pytest.mark.long
def test_two_hundred_swaps_under_load_fail_no_call_and_keep_no_memory(tmp_path: Path) -> None:
    """Promote and roll back by turns: every call is answered in full, and memory is back where it was."""
    releases = tmp_path / "releases"
    names = [
        make_world(items=ITEMS, users=USERS, dim=32, groups=20, seed=seed).write(releases, NOW + seed).release_id
        for seed in range(2)
    ]
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(names[0])
        process = psutil.Process(server.process.pid)
        with Load(server, 4) as load:
            sizes = []
            for swap in range(200):
                if swap % 2 == 0:
                    client.promote_release(names[1])
                else:
                    client.rollback_release(from_release_id=names[1])
                sizes.append(process.memory_info().rss)
        print(
            f"{load.calls} calls during 200 swaps, {len(load.problems)} failed; memory after swap 20: "
            f"{sizes[19] / 1e6:.0f} MB, after swap 200: {sizes[-1] / 1e6:.0f} MB"
        )
        assert load.problems == []
        assert load.seen == set(names)
        assert load.calls > 1000
        # What one release maps and the allocator keeps may come and go; a leak would be 180 times that.
        one_release = sum(path.stat().st_size for path in (releases / names[0]).iterdir())
        assert np.median(sizes[-20:]) < np.median(sizes[10:30]) + 2 * one_release
