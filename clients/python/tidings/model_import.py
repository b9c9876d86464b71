"""The values of an import of history."""

from dataclasses import dataclass

from tidings.model import EventFault


@dataclass(frozen=True, slots=True)
class ImportFault:
    """A rejected row, counted from 0, and what is wrong with it."""

    row: int
    faults: tuple[EventFault, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """How far an import has come, over all runs of it: `next_row` rows are done.

    `accepted` were recorded, `duplicates` had an event_id that was there already, `rejected` were not as they must be;
    `faults` are the first of those, 100 at most. `consistency_token` makes a read see the events ("" before the first).
    """

    import_id: str
    next_row: int
    accepted: int
    duplicates: int
    rejected: int
    faults: tuple[ImportFault, ...] = ()
    consistency_token: str = ""
