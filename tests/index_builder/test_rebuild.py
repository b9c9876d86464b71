"""A rebuild promotes or changes nothing that serves, one at a time, and says in one line what happened."""

import fcntl
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from tests.index_builder.shop import NOW, embeddings, write_embeddings
from tidings.v1 import release_service_pb2
from tidings.v1.release_service_pb2_grpc import ReleaseServiceServicer, add_ReleaseServiceServicer_to_server
from tidings_core.release import Manifest, list_releases, open_release
from tidings_index_builder.cli import app
from tidings_index_builder.progress import silent
from tidings_index_builder.rebuild import LOCK_FILE, prune, rebuild
from tidings_index_builder.settings import read_config

ITEMS, USERS = embeddings(120, 20, 8)


@dataclass
class Promoter(ReleaseServiceServicer):
    """A real gRPC service that opens what it promotes, as the server does, and can be told to refuse."""

    releases: Path
    serving: str = ""
    refuse: grpc.StatusCode | None = None
    promoted: list[str] = field(default_factory=list)

    def ListReleases(  # noqa: N802 - the name of the call
        self,
        request: release_service_pb2.ListReleasesRequest,  # noqa: ARG002 - asks for all
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> release_service_pb2.ListReleasesResponse:
        """Name the release that serves."""
        return release_service_pb2.ListReleasesResponse(
            releases=[
                release_service_pb2.Release(release_id=self.serving, state=release_service_pb2.RELEASE_STATE_SERVING)
            ]
        )

    def PromoteRelease(  # noqa: N802 - the name of the call
        self, request: release_service_pb2.PromoteReleaseRequest, context: grpc.ServicerContext
    ) -> release_service_pb2.PromoteReleaseResponse:
        """Open a release and let it serve."""
        if self.refuse is not None:
            context.abort(self.refuse, "not today")
        manifest = open_release(self.releases / request.release_id).manifest
        previous, self.serving = self.serving, manifest.release_id
        self.promoted.append(manifest.release_id)
        return release_service_pb2.PromoteReleaseResponse(
            release=release_service_pb2.Release(
                release_id=manifest.release_id, state=release_service_pb2.RELEASE_STATE_SERVING
            ),
            previous_release_id=previous,
        )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A rebuild's configuration; its paths count from where it lies."""
    write_embeddings(tmp_path / "items.parquet", ITEMS)
    write_embeddings(tmp_path / "users.parquet", USERS)
    path = tmp_path / "rebuild.toml"
    path.write_text('items = "items.parquet"\nusers = "users.parquet"\nreleases = "releases"\nkeep = 2\nk = 10\n')
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Promoter]]:
    """Address and service of a running server."""
    service = Promoter(tmp_path / "releases")
    running = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add_ReleaseServiceServicer_to_server(service, running)
    address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield address, service
    running.stop(None).wait()


def on_disk(releases: Path) -> list[str]:
    """Ids of the releases in a directory, newest first; there must be nothing unfinished beside them."""
    assert not [path.name for path in releases.iterdir() if path.name.startswith(".unfinished")]
    return [found.release_id for found in list_releases(releases)]


def run(config: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    """Run the command: its status, the one line it printed, and what it told on standard error."""
    result = CliRunner().invoke(app, ["rebuild", "--config", str(config), *more])
    lines = result.stdout.splitlines()
    assert len(lines) == 1, result.output
    return result.exit_code, json.loads(lines[0]), result.stderr


def test_a_rebuild_promotes_what_it_built(config: Path, server: tuple[str, Promoter]) -> None:
    """The new release serves, the line names it with its recall and the one before; status 0."""
    address, service = server
    service.serving = "before"
    status, told, progress = run(config, "--server", address)
    assert (status, told["outcome"], told["error"]) == (0, "promoted", None)
    assert service.promoted == [told["release_id"]] == on_disk(config.parent / "releases")
    assert told["previous_release_id"] == "before"
    assert told["recall"] >= 0.95
    assert told["seconds"] > 0
    assert "promoting" in progress


def test_without_a_server_a_rebuild_only_builds(config: Path) -> None:
    """No server named: the release waits on disk, and nothing is removed, since nobody knows what serves."""
    for _ in range(2):
        status, told, _ = run(
            config,
        )
        assert (status, told["outcome"]) == (0, "built")
    open_release(config.parent / "releases" / told["release_id"])


def test_only_the_newest_are_kept_and_never_what_serves(config: Path, server: tuple[str, Promoter]) -> None:
    """With keep = 2, older releases go after a promotion; the serving one and the one before stay, however old."""
    address, service = server
    settings = read_config(config, address)
    ids = []
    for at in range(4):
        told = rebuild(settings, NOW + at, silent)
        assert told.outcome == "promoted"
        ids.append(told.release_id)
    assert told.pruned == (ids[1],)
    assert on_disk(settings.releases) == [ids[3], ids[2]]
    # Somebody went back to an old one by hand: it is the one before, and stays.
    service.serving = str(ids[2])
    for at in range(4, 6):
        service.serving = str(ids[2])
        told = rebuild(settings, NOW + at, silent)
    assert told.previous_release_id == ids[2]
    assert ids[2] in on_disk(settings.releases)
    assert told.release_id in on_disk(settings.releases)


def test_a_broken_release_is_left_for_people_to_look_at(config: Path) -> None:
    """Pruning counts and removes whole releases only."""
    settings = read_config(config)
    ids = [str(rebuild(settings, NOW + at, silent).release_id) for at in range(3)]
    (settings.releases / "odd").mkdir()
    assert prune(settings.releases, 1, set()) == ((ids[1], ids[0]), None)
    assert sorted(on_disk(settings.releases)) == sorted(["odd", ids[2]])


def test_a_second_run_at_the_same_time_is_told_and_does_nothing(config: Path) -> None:
    """While the lock is held, a run says "busy" with a status of its own and builds nothing."""
    releases = config.parent / "releases"
    releases.mkdir()
    with (releases / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, told, _ = run(config)
    assert (status, told["outcome"], told["release_id"]) == (3, "busy", None)
    assert "another rebuild is running" in told["error"]
    assert on_disk(releases) == []


def test_a_run_holds_the_lock_while_it_works(config: Path) -> None:
    """A second run that starts in the middle of a first one is refused, and the first one finishes."""
    settings = read_config(config)
    inside, go_on = threading.Event(), threading.Event()

    def pause(step: str, done: int = 0, total: int = 0) -> None:
        inside.set()
        go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(rebuild, settings, NOW, pause)
        try:
            assert inside.wait(60)
            assert rebuild(settings, NOW, silent).outcome == "busy"
        finally:
            go_on.set()
        assert first.result().outcome == "built"


def built_before(config: Path) -> list[str]:
    """The release of an earlier build, which would have to go if the next one were promoted."""
    config.write_text(config.read_text().replace("keep = 2", "keep = 1"))
    return [str(rebuild(read_config(config), NOW, silent).release_id)]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND]
)
def test_a_release_that_the_server_refuses_is_removed(
    config: Path, server: tuple[str, Promoter], code: grpc.StatusCode
) -> None:
    """What will never serve does not pile up; the line says that it was removed, and nothing else is."""
    address, service = server
    before = built_before(config)
    service.refuse = code
    status, told, _ = run(config, "--server", address)
    assert (status, told["outcome"], told["release_id"]) == (1, "failed", None)
    assert f"{address} refused {told['pruned'][0]}, which was removed: not today" in told["error"]
    assert on_disk(config.parent / "releases") == before
    assert told["pruned"][0] not in before
    assert service.promoted == []


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_release_that_may_be_serving_is_kept(
    config: Path, server: tuple[str, Promoter], code: grpc.StatusCode
) -> None:
    """When the answer was lost, the new release is named, whole and still there; nothing is removed."""
    address, service = server
    before = built_before(config)
    service.refuse = code
    status, told, _ = run(config, "--server", address)
    assert (status, told["outcome"], told["pruned"]) == (1, "failed", [])
    assert f"it is not known whether {address} promoted {told['release_id']}, which is kept: " in told["error"]
    assert on_disk(config.parent / "releases") == [told["release_id"], *before]
    open_release(config.parent / "releases" / told["release_id"])


def test_while_the_server_is_down_nothing_is_built(config: Path) -> None:
    """However often a scheduler tries, no release is left behind; status 1."""
    for _ in range(2):
        status, told, progress = run(config, "--server", "127.0.0.1:1")
        assert (status, told["outcome"], told["release_id"]) == (1, "failed", None)
        assert "no Tidings server answers at 127.0.0.1:1" in told["error"]
        assert "reading items" not in progress
    assert on_disk(config.parent / "releases") == []


def test_an_address_that_cannot_be_right_fails_before_anything_is_built(config: Path) -> None:
    """Nobody waits for a build only to learn of a misspelt address."""
    status, told, _ = run(config, "--server", "nowhere")
    assert (status, told["outcome"], told["release_id"]) == (1, "failed", None)
    assert "host:port" in told["error"]
    assert on_disk(config.parent / "releases") == []


def test_a_build_that_fails_leaves_nothing_and_what_serves_serves_on(
    config: Path, server: tuple[str, Promoter]
) -> None:
    """Bad input: no release, no promotion, the fault in the line."""
    address, service = server
    service.serving = "before"
    (config.parent / "users.parquet").write_bytes(b"PAR1")
    status, told, _ = run(config, "--server", address)
    assert (status, told["outcome"], told["release_id"]) == (1, "failed", None)
    assert "users.parquet cannot be read" in told["error"]
    assert service.serving == "before"
    assert on_disk(config.parent / "releases") == []


def test_every_fault_of_a_configuration_is_told_at_once(config: Path) -> None:
    """Unknown names, wrong types and values out of their limits stand together in the one line."""
    config.write_text('items = "i"\nreleases = 3\nkeep = 0\nk = "x"\nmetric = "y"\nrecal = 0.9\nseed = -1\n')
    status, told, _ = run(config)
    assert (status, told["outcome"]) == (1, "failed")
    for name in ("releases", "keep: ", "k: ", "metric: ", "recal: ", "seed: "):
        assert name in told["error"]
    assert "is no setting" in told["error"]


@pytest.mark.parametrize(("text", "expected"), [("items = ", "cannot be read"), (None, "is not there")])
def test_a_configuration_that_cannot_be_read_is_told(config: Path, text: str | None, expected: str) -> None:
    """A torn or missing file fails with its name."""
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    status, told, _ = run(config)
    assert (status, told["outcome"]) == (1, "failed")
    assert f"rebuild.toml {expected}" in told["error"]


def test_a_fault_of_ours_is_told_too(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an error that nobody foresaw ends in one JSON line, and its traceback goes to standard error."""

    def broken(*_: object) -> Manifest:
        raise ZeroDivisionError("by surprise")

    monkeypatch.setattr("tidings_index_builder.rebuild.run_build", broken)
    status, told, stderr = run(config)
    assert (status, told["error"]) == (1, "ZeroDivisionError: by surprise")
    assert "Traceback" in stderr
