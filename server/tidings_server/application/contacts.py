"""Contacts: registered, sealed, found again, taken from one user by another, joined, removed."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tidings_core.contacts import (
    Channel,
    Contact,
    Email,
    Phone,
    SealedContact,
    WebPush,
    channel_of,
    faults_of,
    from_bytes,
    identity,
    of_one_person,
    to_bytes,
)
from tidings_core.errors import InvalidInput, StorageFailed
from tidings_core.events import id_fault
from tidings_core.faults import Fault
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.store import Store, Transaction

SWEPT = 100
"""So many contacts of anybody that have expired are removed with each registration."""
DAY_MS = 86_400_000


class Cipher(Protocol):
    """Seals contacts."""

    def name(self, identity: str) -> bytes:
        """The id of what has an identity, which says nothing of it."""
        ...

    def new_key(self, user_id: str) -> bytes:
        """A new key for a user, wrapped."""
        ...

    def seal(self, key: bytes, user_id: str, contact_id: bytes, content: bytes) -> bytes:
        """Encrypt under a user's wrapped key. Raises StorageFailed."""
        ...

    def open(self, key: bytes, user_id: str, contact_id: bytes, sealed: bytes) -> bytes:
        """The inverse of `seal`. Raises StorageFailed."""
        ...


@dataclass(frozen=True, slots=True)
class ContactRules:
    """What holds for contacts.

    `most` is how many a user may have. A subscription or token that was not registered again for `stale_ms` expires.
    `normal_address` and `normal_number` give the normal form, or raise ValueError with what is wrong.
    """

    most: int
    stale_ms: int
    normal_address: Callable[[str], str]
    normal_number: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration came to: the contact's id, whether it is new for the user, how many others have it.

    `taken`: it was another user's, and is not any more.
    """

    contact_id: bytes
    new: bool
    others: int
    taken: bool


@dataclass(frozen=True, slots=True)
class KnownContact:
    """A contact of a user. Times are Unix milliseconds; `expires` 0 for never."""

    contact_id: bytes
    channel: Channel
    contact: Contact
    registered: int
    seen: int
    expires: int


class ContactBook:
    """The contacts of users. An e-mail address or phone number may be several users': families share them, and a guest
    becomes an account. What reaches a device is one user's, the one who registered it last: what is said to one person
    must not come to the next who signs in there.
    """

    def __init__(
        self,
        store: Store,
        cipher: Cipher,
        rules: ContactRules,
        now: Callable[[], float],
        erased: ErasedIds | None = None,
    ) -> None:
        """`now` gives Unix seconds. None is taken of users among the `erased`."""
        self._erased = ErasedIds(b"") if erased is None else erased
        self._store = store
        self._cipher = cipher
        self._rules = rules
        self._now = now

    def register(self, user_id: str, contact: Contact) -> "Future[Registered]":
        """The Future of a registration, done when it is on disk. Registering again counts as a sign of life.

        Raises InvalidInput with all faults, Overloaded or Stopping at once; the Future raises InvalidInput when the
        user has as many as may be, ErasedUser, StorageFull or StorageFailed.
        """
        now = int(self._now() * 1000)
        contact = self._checked(user_id, contact, now)
        return self._store.write(partial(self._register, user_id, contact, now))

    def remove(self, user_id: str, contact_id: bytes) -> "Future[bool]":
        """The Future of a removal, done when it is on disk; False when there was none.

        Raises Overloaded or Stopping at once; the Future raises StorageFull or StorageFailed.
        """
        return self._store.write(lambda tx: tx.contacts.remove(tx.users.get(user_id).whose(user_id), contact_id))

    def read(self, user_id: str) -> list[KnownContact]:
        """The contacts of a user, by the id under which all is known, that have not expired. Raises StorageFailed."""
        now = int(self._now() * 1000)
        key, found = self._store.contacts(user_id)
        return [self._open(key, user_id, each) for each in found if not _expired(each, now)]

    def join(self, tx: Transaction, source: str, target: str) -> int:
        """Make the contacts of one user those of another, as a part of a transaction; returns how many were moved.

        Of one that both have the newer registration stands; of more than may be, the newest.
        """
        now = int(self._now() * 1000)
        key, found = tx.contacts.read(source)
        tx.contacts.erase(source)
        moved = [self._open(key, source, each) for each in found if not _expired(each, now)]
        key, there = tx.contacts.read(target)
        key = key or self._cipher.new_key(target)
        newest = {each.contact_id: each.seen for each in there}
        for each in sorted(moved, key=lambda each: (each.seen, each.contact_id)):
            if newest.get(each.contact_id, -1) < each.seen:
                newest[each.contact_id] = each.seen
                tx.contacts.put(target, key, self._seal(key, target, each))
        for contact_id in sorted(newest, key=lambda name: (newest[name], name))[: -self._rules.most]:
            tx.contacts.remove(target, contact_id)
        return len(moved)

    def name(self, contact: Contact) -> bytes:
        """The id of a contact, as it was given. Raises InvalidInput when it is none."""
        return self._cipher.name(identity(self._normal(contact)))

    def _register(self, user_id: str, contact: Contact, now: int, tx: Transaction) -> Registered:
        user_id = tx.users.get(user_id).whose(user_id)
        self._erased.refuse(user_id)
        tx.contacts.expire(now, SWEPT)
        contact_id, channel = self._cipher.name(identity(contact)), channel_of(contact)
        key, found = tx.contacts.read(user_id)
        key = key or self._cipher.new_key(user_id)
        # Of very many that expired together some are there still; nobody sees them, so they take no room.
        found = [each for each in found if not _expired(each, now)]
        before = next((each for each in found if each.contact_id == contact_id), None)
        if before is None and len(found) >= self._rules.most:
            many = f"this user has {len(found)} contacts, may have {self._rules.most} at most: remove some"
            raise InvalidInput(("contact", many))
        others = [other for other in tx.contacts.holders(contact_id) if other != user_id]
        taken = of_one_person(channel) and bool(others)
        for other in others if taken else ():
            tx.contacts.remove(other, contact_id)
        expires = self._expiry(contact, now)
        known = KnownContact(contact_id, channel, contact, before.registered if before else now, now, expires)
        tx.contacts.put(user_id, key, self._seal(key, user_id, known))
        return Registered(contact_id, before is None, 0 if taken else len(others), taken)

    def _expiry(self, contact: Contact, now: int) -> int:
        if not of_one_person(channel_of(contact)):
            return 0
        stale = now + self._rules.stale_ms
        return min(stale, contact.expires) if isinstance(contact, WebPush) and contact.expires else stale

    def _checked(self, user_id: str, contact: Contact, now: int) -> Contact:
        problem = id_fault(user_id)
        faults: list[Fault] = [("user_id", problem)] if problem else []
        faults += faults_of(contact, now)
        try:
            contact = self._normal(contact)
        except InvalidInput as error:
            faults += error.violations
        if faults:
            raise InvalidInput(*faults)
        return contact

    def _normal(self, contact: Contact) -> Contact:
        try:
            if isinstance(contact, Email):
                return Email(self._rules.normal_address(contact.address))
            if isinstance(contact, Phone):
                return Phone(self._rules.normal_number(contact.number))
        except ValueError as error:
            raise InvalidInput((channel_of(contact), str(error))) from error
        return contact

    def _seal(self, key: bytes, user_id: str, known: KnownContact) -> SealedContact:
        sealed = self._cipher.seal(key, user_id, known.contact_id, to_bytes(known.contact))
        return SealedContact(known.contact_id, known.channel, known.registered, known.seen, known.expires, sealed)

    def _open(self, key: bytes, user_id: str, stored: SealedContact) -> KnownContact:
        content = self._cipher.open(key, user_id, stored.contact_id, stored.sealed)
        try:
            contact = from_bytes(content)
        except (ValueError, KeyError, TypeError) as error:
            raise StorageFailed("a contact is damaged") from error
        return KnownContact(stored.contact_id, stored.channel, contact, stored.registered, stored.seen, stored.expires)


def _expired(stored: SealedContact, now: int) -> bool:
    return 0 < stored.expires <= now


def newest_first(contacts: Sequence[KnownContact]) -> list[KnownContact]:
    """Contacts by when they were last registered."""
    return sorted(contacts, key=lambda each: (-each.seen, each.contact_id))
