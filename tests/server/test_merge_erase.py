"""A merge and an erasure that cross each other leave nothing behind."""

from collections.abc import Sequence
from pathlib import Path

from tests.server.storing import Opened
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.erase_profile import EraseProfile
from tidings_server.application.erasures import ErasedIds


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
