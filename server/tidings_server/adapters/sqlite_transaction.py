"""What one job writes through."""

from collections.abc import Callable

from tidings_server.adapters.sqlite_contacts import ContactTable
from tidings_server.adapters.sqlite_erasures import ErasureTable
from tidings_server.adapters.sqlite_imports import ImportTable
from tidings_server.adapters.sqlite_looks import LookTable
from tidings_server.adapters.sqlite_statements import Statements
from tidings_server.adapters.sqlite_tables import (
    CatalogueTable,
    CheckpointTable,
    CounterTable,
    DecisionTable,
    EventTable,
    ItemTable,
    PushTable,
    TimerTable,
)
from tidings_server.adapters.sqlite_user_table import Changes, UserTable


class SqliteTransaction:
    """The tables of a transaction, and what was changed in them that is kept in memory too."""

    def __init__(self, sql: Statements, now_ms: Callable[[], int]) -> None:
        self.changes = Changes()
        self.events = EventTable(sql, self.changes)
        self.checkpoints = CheckpointTable(sql)
        self.imports = ImportTable(sql)
        self.items = ItemTable(sql)
        self.users = UserTable(sql, self.changes)
        self.streams = PushTable(sql)
        self.ledger = DecisionTable(sql)
        self.timers = TimerTable(sql)
        self.looks = LookTable(sql)
        self.counters = CounterTable(sql, now_ms)
        self.catalogue = CatalogueTable(sql, self.changes)
        self.contacts = ContactTable(sql)
        self.erasures = ErasureTable(sql, self.changes)
