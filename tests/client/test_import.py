"""Importing history with the client: how rows become messages and are passed over, and what files hold."""

import csv
import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tidings import errors, model
from tidings.history import ATTEMPTS, BYTES_PER_MESSAGE, ROWS_PER_CALL, ROWS_PER_MESSAGE, History, Message
from tidings.import_files import EventFile, columns_of
from tidings.model_import import Imported
from tidings.v1 import event_service_pb2 as pb

LONG_AGO = datetime(2011, 12, 9, 8, 30, tzinfo=UTC)


def event(number: int, **fields: Any) -> model.Event:
    """A purchase of long ago."""
    time = LONG_AGO + timedelta(seconds=number)
    return model.Event("ann", "purchase", ["scarf"], event_time=time, event_id=f"e{number}", **fields)


class Server:
    """Takes messages as the real one does, and knows how far it came."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def take(self, messages: Iterator[Message]) -> pb.ImportEventsResponse:
        """Take a call's messages."""
        for message in messages:
            assert message.first_row <= len(self.ids), "rows were left out"
            self.ids += [one.event_id for one in message.events[len(self.ids) - message.first_row :]]
        return pb.ImportEventsResponse(next_row=len(self.ids))


def run(rows: History, server: Server) -> Imported:
    """Import what is left."""
    state = rows.reached(server.take(iter((rows.question,))))
    while rows.more():
        state = rows.reached(server.take(rows.messages()))
    return state


def test_all_rows_are_sent_in_order_in_calls_and_messages_that_are_bounded() -> None:
    """No call holds more than its share of rows, nor a message."""
    count = 2 * ROWS_PER_CALL + 7
    rows, server = History("march", map(event, range(count))), Server()
    assert rows.reached(server.take(iter((rows.question,)))).next_row == 0
    while rows.more():
        messages = list(rows.messages())
        assert sum(len(message.events) for message in messages) <= ROWS_PER_CALL
        assert max(len(message.events) for message in messages) <= ROWS_PER_MESSAGE
        rows.reached(server.take(iter(messages)))
    assert server.ids == [f"e{number}" for number in range(count)]


def test_messages_of_long_events_stay_below_a_servers_limit() -> None:
    """They end by their bytes."""
    rows = History("march", (event(number, query="x" * 50_000) for number in range(100)))
    rows.reached(pb.ImportEventsResponse())
    assert rows.more()
    assert max(message.ByteSize() for message in rows.messages()) < BYTES_PER_MESSAGE + 60_000


@pytest.mark.parametrize("done", [0, 1, ROWS_PER_CALL, ROWS_PER_CALL + 3, 3 * ROWS_PER_CALL])
def test_rows_that_are_done_are_passed_over(done: int) -> None:
    """However far the server had come, what is sent is what is left."""
    count = 2 * ROWS_PER_CALL + 7
    server = Server()
    server.ids = [f"e{number}" for number in range(min(done, count))]
    assert run(History("march", map(event, range(count))), server).next_row == count
    assert server.ids == [f"e{number}" for number in range(count)]


def test_a_call_that_was_cut_off_goes_on_where_the_server_is() -> None:
    """After a failure the server is asked, and the rows it took of the call that failed are not sent again."""
    rows, server = History("march", map(event, range(5000))), Server()
    rows.reached(pb.ImportEventsResponse())
    assert rows.more()
    server.take(itertools.islice(rows.messages(), 3))
    assert rows.failed(errors.Unavailable("gone")) > 0
    assert run(rows, server).next_row == 5000
    assert server.ids == [f"e{number}" for number in range(5000)]


def test_it_gives_up_when_the_server_stays_away_or_says_no() -> None:
    """So often without a row of progress, and at once for anything that waiting does not mend."""
    rows = History("march", [event(1)])
    for _ in range(ATTEMPTS - 1):
        rows.failed(errors.Unavailable("gone"))
        rows.reached(pb.ImportEventsResponse())
    with pytest.raises(errors.Unavailable):
        rows.failed(errors.Unavailable("gone"))
    with pytest.raises(errors.StorageFull):
        History("march", []).failed(errors.StorageFull("no room", retry_after=1.0))
    rows.reached(pb.ImportEventsResponse(next_row=5))
    with pytest.raises(errors.FailedPrecondition, match="set back"):
        rows.reached(pb.ImportEventsResponse(next_row=4))


def test_what_cannot_be_sent_keeps_its_row_and_is_told_in_the_clients_words() -> None:
    """It goes out empty; the server rejects it, and the fault is that of the row."""
    unreadable = errors.InvalidArgument("no", fields=[("event_time", "'soon' is no time")])
    rows = History("march", [event(0), unreadable, model.Event("ann", "bought", event_time=LONG_AGO)])
    rows.reached(pb.ImportEventsResponse())
    assert rows.more()
    (message,) = rows.messages()
    assert [one.event_id for one in message.events] == ["e0", "", ""]
    answer = pb.ImportEventsResponse(next_row=3, rejected=2)
    for row in (1, 2):
        answer.faults.add(row=row).faults.add(field="type", description="is 0")
    told = rows.reached(answer).faults
    assert [(fault.row, fault.faults[0].field) for fault in told] == [(1, "event_time"), (2, "type")]
    assert "must be one of" in told[1].faults[0].description
    # The same when it is run again, and all rows are passed over.
    again = History("march", [event(0), unreadable, model.Event("ann", "bought", event_time=LONG_AGO)])
    assert again.reached(answer).faults == told


@pytest.mark.parametrize("given", [7, "text", event(1), b""])
def test_what_is_no_row_at_all_is_refused(given: Any) -> None:
    """One event, a text or a number is not an import."""
    with pytest.raises(errors.InvalidArgument, match="iterable"):
        History("march", given)


# Files

HEADER = "event_id,customer,event_time,type,item_id,quantity,price,value,category"
ROWS = (
    "a,ann,2011-12-09T08:30:00Z,purchase,scarf,2,9.5,,",
    "a,ann,2011-12-09T08:30:00Z,purchase,coat,1,80,,",
    'b,"ben, the elder",1323419400,view,,,,,hats',
    "c,ann,2011-12-09 08:30:00,rating,scarf,,,4,",
    "d,ann,soon,view,scarf,,,,",
    "e,,1323419400,view,scarf,,,,",
    "f,ann,1323419400000,view,scarf,one,,,",
    "g,ann,1323419400,view,scarf,,,,hats,more",
)


def write(path: Path, text: str) -> Path:
    """Write a text file, packed when its name says so."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def shown(rows: EventFile) -> list[Any]:
    """Of each row its event's id, user, type, items, and time; of an unreadable one the field."""
    return [
        row.fields[0][0]
        if isinstance(row, errors.InvalidArgument)
        else (
            row.event_id,
            row.user_id,
            row.type,
            [(item.item_id, item.quantity, item.price) for item in row.items if isinstance(item, model.EventItem)],
            row.event_time,
        )
        for row in rows
    ]


READ = [
    ("a", "ann", "purchase", [("scarf", 2, 9.5), ("coat", 1, 80.0)], LONG_AGO),
    ("b", "ben, the elder", "view", [], LONG_AGO),
    ("c", "ann", "rating", [("scarf", 1, None)], LONG_AGO),
    "event_time",
    "user_id",
    "quantity",
    "the row",
]


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.parquet"])
def test_a_table_is_read_row_by_row_and_rows_of_one_event_are_one(tmp_path: Path, name: str) -> None:
    """Times in every form; a row that is none is an error in its place, and is found again in the file."""
    path = tmp_path / name
    rows: Sequence[str] = ROWS
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet")
        rows = ROWS[:-1]
        columns = list(zip(*csv.reader(rows), strict=True))
        pa.parquet.write_table(pa.table(dict(zip(HEADER.split(","), map(list, columns), strict=True))), path)
    else:
        write(path, "\n".join((HEADER, *rows, "")))
    file = EventFile(path, columns_of("user_id=customer"))
    assert shown(file) == READ[: len(rows) - 1]
    assert [file.place(row) for row in (0, 1, 3)] == ["row 1", "row 3", "row 5"]


def test_json_lines_are_those_of_the_command_record(tmp_path: Path) -> None:
    """Blank lines are passed over, but counted where a line is named."""
    lines = [
        {"event_id": "a", "user_id": "ann", "type": "view", "items": ["scarf"], "event_time": "2011-12-09T08:30:00Z"}
    ]
    text = f"\n{json.dumps(lines[0])}\n\nno JSON\n"
    file = EventFile(write(tmp_path / "events.jsonl", text), {})
    first, second = file
    assert isinstance(first, model.Event)
    assert (first.event_id, first.event_time) == ("a", LONG_AGO)
    assert isinstance(second, errors.InvalidArgument)
    assert [file.place(0), file.place(1)] == ["line 2", "line 4"]


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl"])
def test_rows_without_an_id_are_numbered_under_the_imports_name(tmp_path: Path, name: str) -> None:
    """Where the caller gave one, so that the ids are the same the next time; without it they are no events."""
    line = '{"user_id": "ann", "type": "view", "items": ["a"], "query": "\\"event_id\\""}\n'
    row = "user_id,event_time,item_id\nann,2011-12-09,a\nann,2011-12-09,a\n"
    path = write(tmp_path / name, row if name.endswith("csv") else line * 2)
    assert [row.event_id for row in EventFile(path, {}, "march") if isinstance(row, model.Event)] == [
        "march/0",
        "march/1",
    ]
    assert [row.fields[0][0] for row in EventFile(path, {}) if isinstance(row, errors.InvalidArgument)] == [
        "event_id"
    ] * 2


def test_a_file_has_a_name_of_its_content(tmp_path: Path) -> None:
    """The same where it is the same file, wherever it lies, and another when it was changed or has grown."""
    one = write(tmp_path / "events.csv", "user_id,event_time\n" + "x" * (3 << 20))
    (tmp_path / "other").mkdir()
    same = write(tmp_path / "other" / "events.csv", one.read_text())
    name = EventFile(one, {}).name()
    assert name == EventFile(same, {}).name()
    assert name.startswith("events.csv-")
    same.write_text(one.read_text() + "y")
    assert EventFile(same, {}).name() != name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("events.txt", b"", "must end in one of"),
        ("events.parquet.gz", b"", "must end in one of"),
        ("events.csv", b"", "has no column user_id, event_time; it has none"),
        ("events.csv", b"user,when\n", "it has user, when"),
        ("events.csv", b'user_id,event_time\n"' + b"x" * (2 << 20), "is no CSV in line"),
        ("events.csv.gz", gzip.compress(b"user_id,event_time\n" * 9999)[:-20], "is cut off"),
        ("events.csv.gz", b"no gzip", "cannot be read"),
        ("events.parquet", b"PAR1 cut in the middle", "cannot be read"),
        (None, b"", "cannot be read"),
    ],
)
def test_a_file_that_is_none_or_is_cut_off_is_named(
    tmp_path: Path, name: str | None, content: bytes, said: str
) -> None:
    """Before the first row where that can be seen, or where it breaks."""
    path = tmp_path / (name or "nowhere.csv")
    if name is not None:
        path.write_bytes(content)
    with pytest.raises(errors.InvalidArgument, match=said):
        list(EventFile(path, {}))


@pytest.mark.parametrize("text", ["user_id", "=x", "user_id=", "who=customer"])
def test_columns_that_are_named_wrongly_are_refused(tmp_path: Path, text: str) -> None:
    """A pair that is none, or a column there is not."""
    with pytest.raises(errors.InvalidArgument, match="--columns"):
        EventFile(tmp_path / "events.csv", columns_of(text))
