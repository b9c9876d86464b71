"""Start, stop, crash and start again."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.server.conftest import Shop, picky_ranker
from tests.server.end_to_end.conftest import stubs
from tests.support.server import run_server, start_server
from tests.support.world import make_world
from tidings.v1 import recommendation_service_pb2 as pb


def one_line(stderr: str) -> str:
    """The one line a server said before it gave up."""
    (line,) = stderr.splitlines()
    return line


def causes(answer: pb.RecommendResponse) -> list[tuple[int, str]]:
    """What an answer had to do without."""
    return [(one.cause, one.stage) for one in answer.degraded]


def test_a_new_server_is_live_but_not_ready_until_a_release_serves(front: str, shop: Shop, tmp_path: Path) -> None:
    """It answers at once, says what it lacks and what to do, and is ready the moment a release is promoted."""
    with start_server(shop.path, tmp_path / "state", "--front", front) as server, stubs(server) as ask:
        assert server.release_id == ""
        assert server.get("/livez")[0] == 200
        status, why = server.get("/readyz")
        assert status == 503
        assert "tidings releases promote" in why
        health = health_pb2_grpc.HealthStub(ask.channel)
        ready = health_pb2.HealthCheckRequest(service="tidings.v1.RecommendationService")
        assert health.Check(ready, timeout=30).status == health_pb2.HealthCheckResponse.NOT_SERVING
        answer = ask.recommendation.Recommend(pb.RecommendRequest(user_id="user-1"), timeout=30)
        assert causes(answer) == [(pb.DEGRADATION_CAUSE_NO_RELEASE, "release")]
        assert not answer.items
        ask.promote(shop.a)
        assert server.get("/readyz") == (200, "ok\n")
        assert health.Check(ready, timeout=30).status == health_pb2.HealthCheckResponse.SERVING
        assert ask.recommendation.Recommend(pb.RecommendRequest(user_id="user-1"), timeout=30).items
        assert server.stop() == 0
        events = [line["event"] for line in server.logged()]
        assert events == ["listening", "not ready", "promote done", "draining", "stopped"]


def test_a_killed_server_serves_the_same_release_after_its_restart(front: str, shop: Shop, tmp_path: Path) -> None:
    """kill -9 loses no promotion and leaves no lock behind."""
    with start_server(shop.path, tmp_path / "state", "--front", front) as server, stubs(server) as ask:
        ask.promote(shop.a)
        ask.promote(shop.b)
        server.process.send_signal(signal.SIGKILL)
        assert server.process.wait(30) == -signal.SIGKILL
    with start_server(shop.path, tmp_path / "state", "--front", front) as server, stubs(server) as ask:
        assert server.release_id == shop.b
        assert server.get("/readyz")[0] == 200
        answer = ask.recommendation.Recommend(pb.RecommendRequest(user_id="user-1"), timeout=30)
        assert answer.release_id == shop.b


def test_a_restart_without_its_release_serves_the_one_before_and_says_so(shop: Shop, tmp_path: Path) -> None:
    """The log names the release and what is wrong with it."""
    with start_server(shop.path, tmp_path / "state") as server, stubs(server) as ask:
        ask.promote(shop.a)
        ask.promote(shop.b)
    (shop.path / shop.b / "manifest.json").unlink()
    with start_server(shop.path, tmp_path / "state") as server:
        assert server.release_id == shop.a
        (refusal,) = [line for line in server.logged() if line["level"] == "error"]
        assert refusal["release_id"] == shop.b
        assert "manifest.json" in refusal["problem"]


def test_a_port_in_use_is_one_line(front: str, shop: Shop, tmp_path: Path) -> None:
    """Either listener's port; the running server is not disturbed."""
    with start_server(shop.path, tmp_path / "state", "--front", front) as server:
        for option, address in (("--listen", server.address), ("--http", server.http)):
            ended = run_server(shop.path, tmp_path / "other", "--front", front, option, address)
            assert (ended.returncode, ended.stdout) == (1, "")
            assert f"{option[2:]}: {address} is in use" in one_line(ended.stderr)
        assert server.get("/livez")[0] == 200


def test_a_state_directory_in_use_is_one_line(shop: Shop, tmp_path: Path) -> None:
    """The second server names the first by its process."""
    with start_server(shop.path, tmp_path / "state") as server:
        ended = run_server(shop.path, tmp_path / "state")
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"in use by another server (process {server.process.pid})" in one_line(ended.stderr)


def test_a_stopping_server_finishes_what_is_under_way(front: str, shop: Shop, tmp_path: Path) -> None:
    """SIGTERM while large batches are computed and wait: all are answered, new calls are refused, exit status 0."""
    requests = [pb.RecommendRequest(user_id=f"user-{n % 60}", k=100) for n in range(256)]
    body = pb.BatchRecommendRequest(requests=requests)
    patient = {"TIDINGS_DRAIN_SECONDS": "60"}
    with (
        start_server(shop.path, tmp_path / "state", "--front", front, env=patient) as server,
        stubs(server) as ask,
        ThreadPoolExecutor(8) as pool,
    ):
        ask.promote(shop.a)
        under_way = [pool.submit(ask.recommendation.BatchRecommend, body, timeout=60) for _ in range(8)]
        waiting, taken = 'tidings_waiting_calls{lane="bulk"}', 'tidings_batch_size_count{lane="bulk"}'
        while server.metric(waiting) + server.metric(taken) < 8:
            assert not any(call.done() and call.exception() for call in under_way)
        server.process.terminate()
        while server.get("/readyz")[1] != "draining: the server is stopping\n":
            pass
        with stubs(server) as late, pytest.raises(grpc.RpcError) as refused:
            late.recommendation.Recommend(pb.RecommendRequest(user_id="user-1"), timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert [len(call.result().responses) for call in under_way] == [256] * 8
        assert server.process.wait(60) == 0


def test_a_ranker_that_fails_at_run_time_degrades_and_is_logged(tmp_path: Path) -> None:
    """The answer is in retrieval order and says so; the log has the failure and no user id."""
    world = make_world()
    object.__setattr__(world.parts, "ranker", picky_ranker())
    release_id = world.write(tmp_path / "releases").release_id
    with start_server(tmp_path / "releases", tmp_path / "state") as server, stubs(server) as ask:
        ask.promote(release_id)
        answer = ask.recommendation.Recommend(pb.RecommendRequest(user_id="user-1", request_id="r-1"), timeout=30)
        assert len(answer.items) == 20
        assert causes(answer) == [(pb.DEGRADATION_CAUSE_FAILED, "ranker")]
        (failure,) = [line for line in server.logged() if line["level"] == "error"]
        assert (failure["stage"], failure["request_id"]) == ("ranker", "r-1")
        assert "user-1" not in json.dumps(server.logged())


def test_calls_that_cannot_be_taken_in_are_refused_at_once(front: str, shop: Shop, tmp_path: Path) -> None:
    """With room for one waiting call, a burst of large batches sees RESOURCE_EXHAUSTED, and the rest are answered."""
    requests = [pb.RecommendRequest(user_id=f"user-{n % 60}", k=500) for n in range(256)]
    body = pb.BatchRecommendRequest(requests=requests)
    (tmp_path / "tidings.toml").write_text("max_waiting = 1\n")
    options = ("--config", str(tmp_path / "tidings.toml"))
    with start_server(shop.path, tmp_path / "state", "--front", front, *options) as server, stubs(server) as ask:
        ask.promote(shop.a)
        calls = [ask.recommendation.BatchRecommend.future(body, timeout=60) for _ in range(8)]
        codes = [call.code() for call in calls]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert len(ask.recommendation.Recommend(pb.RecommendRequest(user_id="user-1"), timeout=30).items) == 20
