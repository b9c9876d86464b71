"""A state directory with as many people in it as you like, written without a server."""

import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np

from tidings_core import profile
from tidings_core.events import Event, EventItem, EventType
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.store import Transaction

KINDS: tuple[EventType, ...] = ("view", "view", "view", "view", "search", "add_to_cart", "purchase")
EVENTS = 20
"""Events that a profile was folded from."""
DIFFERENT = 500
"""So many profiles are made, and given to people in turn."""
TOGETHER = 5_000
DAY_MS = 86_400_000


def write_profiles(state: Path, users: int, items: int, seed: int = 0) -> int:
    """Give each of `user-0` ... a profile, folded from what they did with `item-0` ...; returns bytes per person."""
    now = int(time.time() * 1000)
    directory = StateDirectory.open(state)
    store = SqliteStore.open(state, lambda: now)
    try:
        names = [f"item-{number}" for number in range(min(items, 5_000))]
        numbers = store.write(lambda tx: [tx.items.number(name) for name in names]).result()
        rng = np.random.default_rng(seed)
        documents = [_document(rng, names, numbers, now, number) for number in range(DIFFERENT)]
        parts: list[Future[None]] = []
        for start in range(0, users, TOGETHER):
            parts.append(store.write(partial(_put, documents, start, min(start + TOGETHER, users))))
            if len(parts) > 8:
                parts.pop(0).result()
        for part in parts:
            part.result()
    finally:
        store.close()
        directory.close()
    return sum(file.stat().st_size for file in state.glob("tidings.db*")) // max(1, users)


def _document(rng: np.random.Generator, names: list[str], numbers: list[int], now: int, number: int) -> bytes:
    did: list[tuple[Event, list[int]]] = []
    for at in range(EVENTS):
        kind, item = KINDS[rng.integers(len(KINDS))], int(rng.integers(len(names)))
        when, event_id = now - int(rng.integers(30 * DAY_MS)), f"{number}-{at}"
        if kind == "search":
            did.append((Event(event_id, kind, "user", when, query="red shoes"), []))
        else:
            did.append((Event(event_id, kind, "user", when, items=(EventItem(names[item]),)), [numbers[item]]))
    return write_document(UserDocument(profile=profile.fold(profile.EMPTY, did)))


def _put(documents: list[bytes], start: int, end: int, tx: Transaction) -> None:
    for user in range(start, end):
        tx.users.put(f"user-{user}", documents[user % len(documents)], 0)
