"""`tidings-server rebuild-profiles`: documents held against the log, and put right."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tidings_server.adapters.sqlite_log import LogReader, open_log
from tidings_server.adapters.sqlite_schema import find_database
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory, read_file
from tidings_server.application.rebuild_profiles import Finding, held_against_log, put_right
from tidings_server.application.store import Transaction
from tidings_server.faults import faults_as_lines
from tidings_server.settings import Settings
from tidings_server.show_progress import ShownProgress
from tidings_server.transport.changes import decode_logged

MARK = "rebuild.json"
"""How far a rebuild came that was cut off."""
EVERY = 5000
"""Users after which that is noted."""
SENT = 1000
"""So many of the newest decisions are looked at to find how far a stream went whose document is lost."""
NAMED = 100
"""So many users with a fault are named."""

_State = Annotated[Path, typer.Option(help="State directory of the server.", metavar="DIR", envvar="TIDINGS_STATE")]


def rebuild_profiles(
    state: _State = Settings.model_fields["state"].default,
    user: Annotated[str, typer.Option(help="Of this user only.", metavar="USER", show_default=False)] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare only, change nothing; the server may be running.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make every user's profile again from the log, and write those that are not, byte for byte, as stored.

    What was taken out of the log stands in checkpoints. Offsets, devices and caps stay as they are; of a document that
    cannot be read they are found again as far as the streams and decisions tell. The server must not be running. A run
    that was cut off goes on where it was. The exit status is 1 when something could not be put right, and with
    --verify when something is not right.
    """
    with faults_as_lines(), ShownProgress() as progress:
        find_database(state)
        found, checked = (_verify if verify else _repair)(state, user, progress)
    left = sum(verify or not one.content for one in found)
    if as_json:
        print(json.dumps(_told(found, checked, left)))
    else:
        for one in found[:NAMED]:
            what = "not put right" if verify or not one.content else "put right"
            print(f"tidings-server: {one.user_id}: {one.problem} ({one.detail}): {what}", file=sys.stderr)
        if len(found) > NAMED:
            print(f"tidings-server: and {len(found) - NAMED:,} more", file=sys.stderr)
        print(f"{checked:,} users checked, {len(found):,} not as the log says, {len(found) - left:,} put right")
    if left:
        raise typer.Exit(1)


def _verify(state: Path, user: str, progress: ShownProgress) -> tuple[list[Finding], int]:
    """Look at one user or at all, beside a running server or without one."""
    with open_log(state) as source:

        def look(user_id: str) -> Finding | None:
            sent = partial(source.newest_decisions, limit=SENT)
            with source.at_one_moment() as tx:
                return held_against_log(tx, user_id, decode_logged, sent, _now())

        return _all(source, look, user, 0, progress, lambda _: None)


def _repair(state: Path, user: str, progress: ShownProgress) -> tuple[list[Finding], int]:
    """Put right what is not, from where a run that was cut off has come."""
    held = StateDirectory.open(state)
    try:
        with closing(SqliteStore.open(state, _now)) as store, open_log(state) as source:
            total = source.user_count
            done = 0 if user else _done(state, source.epoch, total)

            def job(user_id: str, tx: Transaction) -> Finding | None:
                sent = partial(source.newest_decisions, limit=SENT)
                found = held_against_log(tx, user_id, decode_logged, sent, _now())
                if found is not None and found.content:
                    put_right(tx, found)
                return found

            def look(user_id: str) -> Finding | None:
                return store.write(partial(job, user_id)).result()

            def mark(checked: int) -> None:
                told = {"epoch": source.epoch, "users": total, "done": done + checked}
                held.write(MARK, json.dumps(told).encode())

            made = _all(source, look, user, done, progress, mark)
            if not user:
                (state / MARK).unlink(missing_ok=True)
            return made
    finally:
        held.close()


def _all(
    source: LogReader,
    look: Callable[[str], Finding | None],
    user: str,
    skip: int,
    progress: ShownProgress,
    mark: Callable[[int], None],
) -> tuple[list[Finding], int]:
    """Look at one user or at all; what was found, and how many were looked at."""
    found: list[Finding] = []
    checked = 0
    for user_id in [user] if user else islice(source.all_user_ids(), skip, None):
        finding = look(user_id)
        if finding is not None:
            # What is put right is put right; only that something is there is told of it.
            found.append(replace(finding, content=finding.content[:1]))
        checked += 1
        if checked % EVERY == 0:
            mark(checked)
        if checked % 100 == 0:
            progress("making profiles again", skip + checked, source.user_count)
    return found, checked


def _now() -> int:
    return int(time.time() * 1000)


def _done(state: Path, epoch: str, total: int) -> int:
    """How many users, in order, a run that was cut off has done; 0 when that is of another history, or of fewer."""
    try:
        fields = json.loads(read_file(state, MARK) or b"{}")
        return int(fields["done"]) if fields["epoch"] == epoch and int(fields["users"]) <= total else 0
    except (ValueError, KeyError, TypeError):
        return 0


def _told(found: Sequence[Finding], checked: int, left: int) -> Mapping[str, object]:
    named = [{"user_id": one.user_id, "problem": one.problem, "detail": one.detail} for one in found[:NAMED]]
    counts = Counter(one.problem for one in found)
    return {"checked": checked, "wrong": len(found), "repaired": len(found) - left} | {
        "problems": dict(sorted(counts.items())),
        "users": named,
    }
