"""Make a state directory with the real server of a commit, and pack it into the fixtures beside this file.

    python tests/server/states/make.py COMMIT NAME

checks the commit out into a temporary worktree, starts the server that is in it, records what `EVENTS` and the rest say
through its own client stubs, stops it, and writes NAME.tar.xz. Run it when the tables have got a new version, with the
commit that landed it; what is there already is never made anew.
"""

import importlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PACKAGES = ("clients/python", "core", "index_builder", "training", "server")
TIME = 1_790_000_000
"""Unix seconds of the first event; each later one is a minute after the one before."""
EVENTS = (
    {"event_id": "e1", "type": 1, "user_id": "ann", "items": [{"item_id": "scarf"}]},
    {"event_id": "e2", "type": 5, "user_id": "ann", "items": [{"item_id": "coat", "price": 80.5}], "value": 80.5},
    {"event_id": "e3", "type": 1, "user_id": "ann", "category": "hats"},
    {"event_id": "e4", "type": 2, "user_id": "bob", "query": "warm socks"},
    {"event_id": "e5", "type": 6, "user_id": "ann", "items": [{"item_id": "coat"}], "value": 80.5},
)
PUSHES = ("first", "second", "third")
"""Titles of the pushes to ann; the first is acknowledged by her phone."""
ITEMS = ("coat", "scarf")
"""Described to those servers that have a catalogue."""
CONFIG = """
[trigger.bought]
event = "purchase"
serving_config = "for-you"
template = "bought"
[template.bought]
title = "Goes with it: {{ item.title or item.item_id }}"
"""


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of a commit, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code"
        subprocess.run(["git", "worktree", "add", "--detach", path, commit], cwd=ROOT, check=True)
        try:
            yield path
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", path], cwd=ROOT, check=True)


@contextmanager
def served(code: Path, folder: Path) -> Iterator[str]:
    """The address of the server that is in `code`, on a state directory below `folder`; it is stopped in good order."""
    (folder / "server.toml").write_text(CONFIG)
    (folder / "releases").mkdir()
    command = [sys.executable, "-m", "tidings_server", "--config", f"{folder}/server.toml"]
    command += ["--releases", f"{folder}/releases", "--state", f"{folder}/state"]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    path = os.pathsep.join(str(code / package) for package in PACKAGES)
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["grpc"]
    finally:
        process.terminate()
        process.wait(30)


def feed(code: Path, address: str) -> None:
    """Give a server what the fixtures hold, by the stubs of its own commit."""
    sys.path[:0] = [str(code / "clients/python")]
    import grpc

    def stub(service: str) -> tuple[Any, Any]:
        messages = importlib.import_module(f"tidings.v1.{service}_pb2")
        calls = importlib.import_module(f"tidings.v1.{service}_pb2_grpc")
        name = "".join(part.title() for part in service.split("_"))
        return messages, getattr(calls, f"{name}Stub")(channel)

    with grpc.insecure_channel(address) as channel:
        pb, events = stub("event_service")
        event_pb = importlib.import_module("tidings.v1.event_pb2")
        for at, fields in enumerate(EVENTS):
            event = event_pb.Event(**fields, event_time={"seconds": TIME + 60 * at})
            (verdict,) = events.RecordEvents(pb.RecordEventsRequest(events=[event])).verdicts
            assert verdict.status == pb.EVENT_STATUS_ACCEPTED, verdict
        pb, pushes = stub("push_service")
        for title in PUSHES:
            sent = pushes.SendPush(pb.SendPushRequest(request_id=f"r-{title}", user_id="ann", title=title))
            assert sent.push_id, sent
        stream = pushes.Subscribe(pb.SubscribeRequest(user_id="ann", device_id="phone"))
        subscribed, first = next(stream).subscribed, next(stream).push
        pushes.Acknowledge(
            pb.AcknowledgeRequest(user_id="ann", subscription_id=subscribed.subscription_id, offset=first.offset)
        )
        stream.cancel()
        if (code / "protos/tidings/v1/catalog_service.proto").exists():
            pb, catalogue = stub("catalog_service")
            items = [
                {"item": {"item_id": name, "title": name.title()}, "update_time": {"seconds": TIME}} for name in ITEMS
            ]
            catalogue.UpsertItems(pb.UpsertItemsRequest(items=items))


def pack(state: Path, file: Path) -> None:
    """Pack the files of a state directory, in their order, without times and owners."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(file, "w:xz") as archive:
        for path in sorted(state.iterdir()):
            if path.name != "lock":
                archive.add(path, path.name, filter=plain)


def main() -> None:
    """Make one fixture."""
    commit, name = sys.argv[1:]
    file = HERE / f"{name}.tar.xz"
    assert not file.exists(), f"{file.name} is there already"
    with tempfile.TemporaryDirectory() as work, checked_out(commit) as code:
        folder = Path(work)
        with served(code, folder) as address:
            feed(code, address)
        pack(folder / "state", file)
    print(f"{file.name}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
