"""Ids: reading them from columns, the rules every id keeps, and the way from ids to rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidings_core.errors import InvalidInput
from tidings_core.model import MAX_ID_BYTES
from tidings_core.tables import Int32

SHOWN = 3
"""So many offenders are named in a message."""


def named(offenders: Sequence[object]) -> str:
    """The first few of many, and how many more there are."""
    more = f" and {len(offenders) - SHOWN:,} more" if len(offenders) > SHOWN else ""
    return ", ".join(str(offender) for offender in offenders[:SHOWN]) + more


def check_ids(ids: Sequence[str], where: str, field: str) -> None:
    """Raise InvalidInput unless ids are 1 to 256 bytes of UTF-8 each and all different. `where` names the file."""
    empty = [row for row, name in enumerate(ids) if not name]
    broken = [row for row, name in enumerate(ids) if not name.isascii() and not _encodes(name)]
    long = [row for row, name in enumerate(ids) if len(name) * 4 > MAX_ID_BYTES and _bytes(name) > MAX_ID_BYTES]
    violations = []
    if empty:
        violations.append((field, f"{where}: the id is empty in row {named(empty)}; every row needs one"))
    if broken:
        violations.append((field, f"{where}: the id is not valid UTF-8 in row {named(broken)}"))
    if long:
        violations.append(
            (field, f"{where}: the id is longer than {MAX_ID_BYTES} bytes of UTF-8 in row {named(long)}; shorten it")
        )
    if len(set(ids)) < len(ids):
        repeats = _repeats(ids)
        violations.append((field, f"{where}: an id may stand once, but {named(repeats)} repeat; keep one row of each"))
    if violations:
        raise InvalidInput(*violations)


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(name: str) -> int:
    return len(name.encode(errors="replace"))


def _repeats(ids: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in ids:
        if name in seen:
            repeated[repr(name)] = None
        seen.add(name)
    return list(repeated)


def texts(column: Any, where: str, field: str) -> list[str | None]:
    """An Arrow column of text or whole numbers as strings, None where it has none. Raises InvalidInput."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    textual: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_null,
    )
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        column = column.cast(pa.string())
    elif not any(fits(kind) for fits in textual):
        raise InvalidInput((field, f"{where} is {kind}, must be text or whole numbers"))
    try:
        values = column.to_pylist()
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        broken = _undecodable(column)
        raise InvalidInput((field, f"{where} is not valid UTF-8 in row {named(broken)}")) from None


def _undecodable(column: Any) -> list[int]:
    broken = []
    for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            broken.append(row)
    return broken


def id_column(column: Any, where: str, field: str) -> list[str]:
    """An Arrow column of text or whole numbers as ids; a missing one becomes "", which `check_ids` refuses."""
    return [name or "" for name in texts(column, where, field)]


def rows_of(ids: "Sequence[str] | Any", among: Sequence[str]) -> Int32:
    """Rows of ids (strings, or an Arrow array of them) in the list `among`, i32[len(ids)], -1 where it has none."""
    wanted = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())
    found = pc.index_in(wanted.cast(pa.large_string()), value_set=pa.array(among, pa.large_string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int32)
