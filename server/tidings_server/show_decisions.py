"""The newest decisions of a ledger, for people and for machines."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidings_core.errors import StorageFailed
from tidings_core.stored import Entry
from tidings_server.application.decision_record import read_record

ITEMS = 3
"""So many of a push's items are shown to people."""
FILE_COLUMNS = 200
"""Width of the table where it does not go to a terminal."""


def flatten(entry: Entry) -> dict[str, Any]:
    """An entry and its full record as one, as values that fit JSON; times are Unix milliseconds.

    Where both speak the entry's word stands, which is the newer one. Of a damaged record `record_problem` says what is
    wrong with it.
    """
    fields = asdict(entry)
    del fields["record"]
    if not entry.record:
        return fields
    try:
        return {**read_record(entry.record), **fields}
    except StorageFailed as error:
        return {**fields, "record_problem": str(error)}


def to_line(decision: dict[str, Any]) -> str:
    """A flattened decision as one line of JSON."""
    return json.dumps(decision, ensure_ascii=False, separators=(",", ":"))


def print_table(console: Console, decisions: Sequence[dict[str, Any]]) -> None:
    """Print flattened decisions, one per row."""
    if not console.is_terminal:
        console = Console(file=console.file, width=FILE_COLUMNS)
    table = Table(box=None, pad_edge=False)
    for name in ("time (UTC)", "user", "cause", "outcome", "title", "items", "release"):
        table.add_column(name, overflow="fold")
    for decision in decisions:
        table.add_row(*map(_cell, _row(decision)))
    console.print(table)


def _row(decision: dict[str, Any]) -> list[str]:
    time = datetime.fromtimestamp(decision["time"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    outcome = ": ".join(word for word in (decision["state"], decision["reason"]) if word)
    chosen = [item["item_id"] for item in decision.get("chosen", [])]
    more = f" and {len(chosen) - ITEMS} more" if len(chosen) > ITEMS else ""
    title = decision.get("title", "") if "record_problem" not in decision else "(its record is damaged)"
    items = ", ".join(chosen[:ITEMS]) + more
    return [time, decision["user_id"], decision["cause"], outcome, title, items, decision.get("release_id", "")]


def _cell(content: str) -> Text:
    # Ids and titles are the shop's: they must not be read as markup, nor steer the terminal.
    return Text("".join(character if character.isprintable() else " " for character in content))
