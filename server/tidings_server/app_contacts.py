"""The part of the server's wiring that is about contacts."""

import time

from tidings_server.adapters.contact_cipher import ContactCipher
from tidings_server.adapters.email_addresses import normal_address
from tidings_server.adapters.phone_numbers import normal_number
from tidings_server.application.contacts import ContactBook, ContactRules
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.store import Store
from tidings_server.settings import Settings
from tidings_server.transport.calls import Method
from tidings_server.transport.contacts import ContactHandlers

SERVICE = "tidings.v1.ContactService"
TOGETHER = 64
"""Calls whose changes are written down together at most."""
SECONDS = 10.0
"""Deadline of a call whose caller sets none."""
DAY_MS = 86_400_000


def contact_book(settings: Settings, store: Store, secret: bytes, erased: ErasedIds) -> ContactBook:
    """What keeps contacts, sealed by a server's secret."""
    stale_ms = int(settings.contact_stale_days * DAY_MS)
    rules = ContactRules(settings.contacts_per_user, stale_ms, normal_address, normal_number)
    return ContactBook(store, ContactCipher(secret), rules, time.time, erased)


def contact_methods(book: ContactBook) -> tuple[Method, ...]:
    """What registers and removes contacts."""
    handlers = ContactHandlers(book)
    return (
        Method(SERVICE, "RegisterContact", handlers.register_contact, "record", TOGETHER, SECONDS),
        Method(SERVICE, "RemoveContact", handlers.remove_contact, "record", TOGETHER, SECONDS),
    )
