"""`tidings-server flags`: how many events of the log count for nothing, and why."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from tidings_core.errors import StorageFailed
from tidings_core.flags import Flag
from tidings_server.adapters.sqlite_ledger import check_tables
from tidings_server.adapters.sqlite_schema import find_database, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.faults import faults_as_lines
from tidings_server.settings import Settings

_WORDS = {
    Flag.BOT: "no person did it",
    Flag.TEST: "the shop tried itself out",
    Flag.CANCELLED: "its order was called off",
    Flag.FLOOD: "more than a person can do in the time",
    Flag.NO_CONSENT: "the user had not agreed to be remembered",
}


def flags(
    state: Annotated[
        Path, typer.Option(help="State directory of the server.", metavar="DIR", envvar="TIDINGS_STATE")
    ] = Settings.model_fields["state"].default,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Count the events of the log that are flagged, by why. The server may be running.

    They are in no profile, trend, training set or export. One that has several flags is counted under each of them.
    """
    with faults_as_lines():
        counts = count_flags(state)
    total, flagged = sum(counts.values()), sum(count for flag, count in counts.items() if flag)
    by_flag = {flag: sum(count for of, count in counts.items() if flag in of) for flag in Flag}
    if as_json:
        told = {(flag.name or "").lower(): count for flag, count in by_flag.items()}
        print(json.dumps({"events": total, "flagged": flagged, **told}))
        return
    print(f"{total:,} entries in the log, {flagged:,} of them count for nothing")
    for flag, count in by_flag.items():
        if count:
            print(f"  {count:>9,}  {(flag.name or '').lower():10}  {_WORDS[flag]}")


def count_flags(directory: Path) -> dict[Flag, int]:
    """How many entries of the log have which flags, GOOD among them. Changes nothing, and needs no lock.

    Raises InvalidInput when the directory has no database of this version, StorageFailed when it cannot be read.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            check_tables(sql, file)
            rows = sql.rows("SELECT flags, count(*) FROM events GROUP BY flags ORDER BY flags")
            return {Flag(of): count for of, count in rows}
    except sqlite3.Error as error:
        raise StorageFailed(f"{file} cannot be read: {failure(error)}") from error
