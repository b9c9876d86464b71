"""Replay: a user's profile made again from the log, by the same fold."""

from collections.abc import Callable, Collection, Iterator

from tidings_core.changes import Logged
from tidings_core.cleaning import is_of
from tidings_core.events import Event
from tidings_core.flags import Flag
from tidings_core.profile import EMPTY, Profile, fold, join
from tidings_core.stored import StoredEvent
from tidings_server.application.documents import read_checkpoint
from tidings_server.application.store import Transaction

PAGE = 500
"""Entries read at a time."""

Decode = Callable[[bytes], Logged]
"""What the log kept of an event or a change. Raises StorageFailed when it is damaged."""


def replay(tx: Transaction, user_id: str, decode: Decode) -> Profile:
    """The profile that all entries of the log that count make of a user, who is merged into nobody.

    What was taken out of the log is there by its checkpoint. Raises StorageFailed when an entry is damaged.
    """
    profile = EMPTY
    for name in (user_id, *tx.users.merged(user_id)):
        profile = join(profile, read_checkpoint(tx.checkpoints.get(name)))
    for page in _pages(tx, user_id):
        logged = [decode(one.content) for one in page if not one.flags]
        profile = fold(profile, [(one, item_numbers(tx, one)) for one in logged])
    return profile


def cancel_orders(tx: Transaction, user_id: str, orders: Collection[int], decode: Decode) -> int:
    """Flag the events of a user's orders (by `order_key`) as cancelled; how many counted until now."""
    counted = 0
    for page in _pages(tx, user_id):
        for stored in page:
            one = decode(stored.content)
            if isinstance(one, Event) and is_of(one, orders) and Flag.CANCELLED not in stored.flags:
                tx.events.set_flags(stored.number, stored.flags | Flag.CANCELLED)
                counted += not stored.flags
    return counted


def item_numbers(tx: Transaction, one: Logged) -> list[int]:
    """The item_no of each item of an event; a change has none."""
    return [tx.items.number(item.item_id) for item in one.items] if isinstance(one, Event) else []


def _pages(tx: Transaction, user_id: str) -> Iterator[list[StoredEvent]]:
    """All entries of a user, under whichever id, some at a time."""
    for name in (user_id, *tx.users.merged(user_id)):
        after = 0
        while page := tx.events.of_user(name, after, PAGE):
            after = page[-1].number
            yield page
