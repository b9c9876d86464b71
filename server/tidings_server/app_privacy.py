"""The part of the wiring that is about what a person has a right to: preferences, export, erasure."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.contacts import ContactBook
from tidings_server.application.erase_profile import EraseProfile
from tidings_server.application.export_profile import ExportProfile
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.people import People
from tidings_server.application.record_change import RecordChange
from tidings_server.application.set_preferences import SetPreferences
from tidings_server.transport.calls import Method, Stream
from tidings_server.transport.changes import encode_change
from tidings_server.transport.privacy import PrivacyHandlers

SERVICE = "tidings.v1.ProfileService"
RECORD_TOGETHER = 64
RECORD_SECONDS = 10.0
ERASE_SECONDS = 60.0
"""Deadline of an erasure whose caller sets none."""


def make_erase(
    store: SqliteStore,
    releases: ReleaseDirectory,
    documents: KnownDocuments,
    people: People,
    end_subscriptions: Callable[[str], bool],
    settle: Callable[[float], bool],
) -> EraseProfile:
    """What erases. `settle` waits until answers that are to be recorded are."""
    forget = (documents.forget, people.forget, end_subscriptions)

    def one_person(user_id: str) -> list[str]:
        whose = store.user(user_id).whose(user_id)
        return [whose, *store.merged(whose)]

    return EraseProfile(store, documents.erased, forget, releases.holding, one_person, settle, time.time, time.sleep)


def privacy_methods(
    store: SqliteStore,
    documents: KnownDocuments,
    erase: EraseProfile,
    item_ids: Callable[[Sequence[int]], list[str]],
    contacts: ContactBook,
    watch: Callable[[], None] | None,
) -> tuple[tuple[Method, ...], Stream]:
    """The RPCs. `watch` is called when a profile changed and tags are watched; None: they are not."""
    record = RecordChange(store, documents, encode_change, time.time, watch)
    handlers = PrivacyHandlers(
        SetPreferences(store, record, documents.erased, time.time),
        erase,
        ExportProfile(store, documents, contacts.read),
        item_ids,
        ThreadPoolExecutor(1, thread_name_prefix="export"),
        time.time,
    )
    return (
        Method(SERVICE, "SetPreferences", handlers.set_preferences, "record", RECORD_TOGETHER, RECORD_SECONDS),
        Method(SERVICE, "EraseProfile", handlers.erase_profile, "erase", 1, ERASE_SECONDS),
    ), Stream(SERVICE, "ExportProfile", handlers.export_profile)
