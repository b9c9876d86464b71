"""A merge and an erasure that cross each other leave nothing behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.server.storing import Opened
from tidings_core.changes import Change, Said
from tidings_core.errors import Conflict, ErasedUser, StorageFull
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.erase_profile import EraseProfile
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.record_change import RecordChange
from tidings_server.application.set_preferences import SetPreferences
from tidings_server.transport.changes import encode_change


def test_who_is_merged_while_an_erasure_begins_goes_with_the_person(tmp_path: Path) -> None:
    """The other ids are looked at again in the erasure's first transaction: one that joined since is erased too."""
    opened = Opened(SqliteStore.open, tmp_path)
    opened.do(lambda t: [t.users.put(name, b"known", 0) for name in ("v", "u")])
    opened.do(lambda t: [t.events.append(f"e-{name}", name, 1, b"content") for name in ("v", "u")])
    looked: list[str] = []

    def aliases(user_id: str) -> Sequence[str]:
        found = opened.store.merged(user_id)
        if not looked:
            opened.do(lambda t: t.users.merge("v", "u"))
        looked.append(user_id)
        return found

    erased = ErasedIds(b"k" * 32)
    erase = EraseProfile(opened.store, erased, (), lambda _: {}, aliases, lambda _: True, lambda: 1.0, lambda _: None)
    receipt = erase("u")
    assert len(looked) == 2
    assert receipt.counts["events"] == 2
    assert opened.store.events(0, 9) == []
    assert "v" in erased
    assert opened.store.user("v").version == opened.store.user("u").version == 0
    opened.adapter.close()


def test_an_erasure_that_was_cut_off_is_finished_under_any_id_of_the_person(tmp_path: Path) -> None:
    """Until it is, nobody comes back under any of the ids, so that nothing new is removed with the old."""
    opened = Opened(SqliteStore.open, tmp_path)
    opened.do(lambda t: [t.users.put(name, b"known", 0) for name in ("v", "u")])
    opened.do(lambda t: [t.events.append(f"e-{name}", name, 1, b"content") for name in ("v", "u")])
    opened.do(lambda t: t.users.merge("v", "u"))
    erased, fails = ErasedIds(b"k" * 32), [True]

    def aliases(user_id: str) -> list[str]:
        whose = opened.store.user(user_id).whose(user_id)
        return [whose, *opened.store.merged(whose)]

    def settle(_: float) -> bool:
        if fails:
            fails.pop()
            raise StorageFull("the disk is full", 1.0)
        return True

    def nothing(*_: Any) -> dict[str, list[int]]:
        return {}

    erase = EraseProfile(opened.store, erased, (), nothing, aliases, settle, lambda: 1.8e9, lambda _: None)
    with pytest.raises(StorageFull):
        erase("v")
    record = RecordChange(opened.store, KnownDocuments(opened.store, erased=erased), encode_change, lambda: 1.8e9)
    preferences = SetPreferences(opened.store, record, erased, lambda: 1.8e9)
    back = Change("back", "u", 1_800_000_000_000, Said({}))
    with pytest.raises(Conflict, match="not done"):
        preferences(back, timed=False, lift=True)
    with pytest.raises(ErasedUser):
        preferences(Change("no", "u", 1_800_000_000_000, Said({"consent/marketing": True})), timed=False).result(30)
    assert len(opened.store.events(0, 9)) == 2
    assert erase("u").counts["events"] == 2
    assert opened.store.events(0, 9) == []
    assert opened.store.erasing() == []
    preferences(back, timed=False, lift=True).result(30)
    assert opened.store.user("u").version
    opened.adapter.close()
