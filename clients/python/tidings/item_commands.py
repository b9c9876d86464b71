"""What each `tidings items` command does with a connection: ask, print, and return the exit status."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from tidings import commands, errors, event_lines, item_lines, model, show
from tidings.client import Client

_BATCH = 500
_BATCH_BYTES = 1 << 20  # of lines, so that long ones stay below a server's limit of 4 MiB


class _Named(Exception):
    """A line is bad, and its faults are on standard error already."""


def upsert(connection: Client, arguments: argparse.Namespace) -> int:
    """Upsert the items of a file; 1 when one is bad, and nothing from its batch on was taken then."""
    counts: Counter[model.UpsertResult] = Counter()
    reached = 0
    try:
        batches = _batches(commands.lines(arguments.file))
        for numbers, batch in batches:
            try:
                counts.update(connection.upsert_items(batch, only=arguments.only).results)
            except errors.InvalidArgument as error:
                _complain(numbers, error)
                next(batches, None)  # Reads on, and so names a line of the next batch that holds no item.
                raise _Named from error
            reached = numbers[-1]
    except (_Named, errors.TidingsError, KeyboardInterrupt) as error:
        taken = f"stopped after line {reached}: nothing that follows was taken" if reached else "nothing was taken"
        print(f"tidings: {taken}", file=sys.stderr)
        if isinstance(error, _Named):
            return 1
        raise
    commands.say(arguments, {result.value: counts[result] for result in counts}, show.upserted_file)
    return 0


def delete(connection: Client, arguments: argparse.Namespace) -> int:
    """Delete items."""
    deleted = connection.delete_items(arguments.items, arguments.time or datetime.now(UTC))
    commands.say(arguments, deleted, lambda done: show.deleted(arguments.items, done))
    return 0


def get(connection: Client, arguments: argparse.Namespace) -> int:
    """Print an item."""
    commands.say(arguments, connection.get_item(arguments.item), show.catalog_item)
    return 0


def list_items(connection: Client, arguments: argparse.Namespace) -> int:
    """Print every item, one on each line."""
    for item in connection.list_items(timeout=arguments.timeout):
        commands.say(arguments, item, show.catalog_line)
    return 0


def _batches(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[list[int], list[model.CatalogItem]]]:
    """Group the items of lines, with their line numbers. Raises _Named at lines that hold none, which it names."""
    numbers: list[int] = []
    batch: list[model.CatalogItem] = []
    size = 0
    for number, line in lines:
        try:
            item = item_lines.parse(line)
        except errors.InvalidArgument as error:
            if batch:
                yield numbers, batch
            _told(number, item_lines.faults(error))
            _name_faults(islice(lines, _BATCH))
            raise _Named from error
        if batch and (len(batch) == _BATCH or size + len(line) > _BATCH_BYTES):
            yield numbers, batch
            numbers, batch, size = [], [], 0
        numbers.append(number)
        batch.append(item)
        size += len(line)
    if batch:
        yield numbers, batch


def _name_faults(lines: Iterator[tuple[int, str]]) -> None:
    """Name the lines that hold no item."""
    for number, line in lines:
        try:
            item_lines.parse(line)
        except errors.InvalidArgument as error:
            _told(number, item_lines.faults(error))


def _complain(numbers: list[int], error: errors.InvalidArgument) -> None:
    """Name the lines of a batch that a server refused."""
    for fault in event_lines.faults(error):
        head, bracket, field = fault.field.partition("].")
        place = head.removeprefix("items[")
        if bracket and place.isdigit() and int(place) < len(numbers):
            _told(numbers[int(place)], [model.EventFault(field, _lines_for_rows(fault.description, numbers))])
        else:
            print(f"tidings: {show.fault(fault.field, fault.description)}", file=sys.stderr)


def _lines_for_rows(description: str, numbers: list[int]) -> str:
    """What a server says of further rows of its call, said of the lines of the file."""
    problem, also, rows = description.partition("; and so in rows ")
    if not also:
        return description
    return f"{problem}; and so in lines {re.sub('[0-9]+', lambda row: _line(row[0], numbers), rows)}"


def _line(row: str, numbers: list[int]) -> str:
    return str(numbers[int(row)]) if int(row) < len(numbers) else row


def _told(number: int, faults: list[model.EventFault]) -> None:
    for fault in faults:
        print(f"tidings: line {number}: {show.fault(fault.field, fault.description)}", file=sys.stderr)
