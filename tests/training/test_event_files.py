from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.errors import InvalidInput
from tidings_training.event_files import Layout, columns_from_text, parse_time, read_events
from tidings_training.events import Events

MOMENT = datetime(2011, 11, 9, 8, 26, tzinfo=UTC)
NOON = MOMENT.timestamp()


def as_rows(events: Events) -> list[tuple[str, str, float, bool]]:
    """Events as user id, item id, time, whether a purchase."""
    return [
        (events.user_ids[user], events.item_ids[item], float(time), bool(purchase))
        for user, item, time, purchase in zip(events.users, events.items, events.times, events.purchases, strict=True)
    ]


def table(**columns: Any) -> Any:
    """Two purchases of two users, with columns put in place or taken out (None)."""
    given = {"user_id": ["ann", "bob"], "item_id": ["x", "y"], "timestamp": [NOON, NOON + 60], **columns}
    return pa.table({name: column for name, column in given.items() if column is not None})


def write(path: Path, given: Any) -> Path:
    """Write a table as Parquet."""
    pq.write_table(given, path)
    return path


WANTED = [("ann", "x", NOON, True), ("bob", "y", NOON + 60, True)]


def test_parquet_csv_and_bare_tsv_say_the_same(tmp_path: Path) -> None:
    """The same events read the same from Parquet, from CSV with a header, and from TSV without one."""
    parquet = write(tmp_path / "e.parquet", table())
    csv = tmp_path / "e.csv"
    csv.write_text(f"timestamp,item_id,user_id\n{NOON:.0f},x,ann\n{NOON + 60:.0f},y,bob\n")
    tsv = tmp_path / "e.tsv"
    tsv.write_text(f"ann\tx\t{NOON:.0f}\nbob\ty\t{NOON + 60:.0f}\n")
    assert as_rows(read_events(parquet)) == WANTED
    assert as_rows(read_events(csv)) == WANTED
    assert as_rows(read_events(tsv, Layout(header=False))) == WANTED


def test_columns_and_separator_can_be_named(tmp_path: Path) -> None:
    """A file with its own column names and separator is read when told, by name or, without a header, by number."""
    named = tmp_path / "named.txt"
    named.write_text(f"customer|sku|at\nann|x|{NOON}\nbob|y|{NOON + 60}\n")
    columns = columns_from_text(["user_id=customer", "item_id=sku", "timestamp=at"])
    assert as_rows(read_events(named, Layout(columns, "|"))) == WANTED
    bare = tmp_path / "bare.data"
    bare.write_text(f"{NOON};ann;5;x\n{NOON + 60};bob;4;y\n")
    columns = {"user_id": "2", "item_id": "4", "timestamp": "1", "value": "3"}
    assert as_rows(read_events(bare, Layout(columns, ";", header=False))) == WANTED


@pytest.mark.parametrize(
    ("name", "layout", "way_out"),
    [
        ("e.tsv", Layout(), ("has no column user_id", "--columns user_id=NAME", "--no-header")),
        ("same.tsv", Layout(), ("more than one column x", "--no-header")),
        ("e.tsv", Layout({"value": "4"}, header=False), ("has no column 4; it has 1, 2, 3", "user_id=NUMBER")),
        ("e.parquet", Layout({"user_id": "who"}), ("has no column who", "--columns user_id=NAME")),
    ],
)
def test_whoever_is_told_of_a_missing_column_is_told_the_way_out(
    tmp_path: Path, name: str, layout: Layout, way_out: tuple[str, ...]
) -> None:
    """A file without a header, read as if it had one, is refused with the options that name its columns."""
    write(tmp_path / "e.parquet", table())
    (tmp_path / "e.tsv").write_text("a\tx\t1700000000\nb\ty\t1700000001\n")
    (tmp_path / "same.tsv").write_text("x\tx\t1700000000\n")
    with pytest.raises(InvalidInput) as refused:
        read_events(tmp_path / name, layout)
    for words in way_out:
        assert words in str(refused.value)
    assert ("--no-header" in str(refused.value)) == (layout.header and name.endswith(".tsv"))


def test_ids_keep_their_spelling(tmp_path: Path) -> None:
    """Text ids keep leading zeros, whole numbers become their decimal strings, also when pandas made floats of them."""
    csv = tmp_path / "e.csv"
    csv.write_text(f"user_id,item_id,timestamp\n007,0x,{NOON}\n08,y,{NOON}\n")
    assert read_events(csv).user_ids == ["007", "08"]
    numbers = write(tmp_path / "n.parquet", table(user_id=[17850, 9], item_id=[5.0, 12.0]))
    events = read_events(numbers)
    assert (events.user_ids, events.item_ids) == (["17850", "9"], ["12", "5"])


@pytest.mark.parametrize(
    "times",
    [
        pa.array([MOMENT] * 2, pa.timestamp("ns", "UTC")),
        pa.array([MOMENT.replace(tzinfo=None)] * 2, pa.timestamp("s")),
        pa.array([NOON, NOON]),
        pa.array([int(NOON)] * 2),
        pa.array([int(NOON) * 1000] * 2),
        pa.array([f"{NOON:.0f}", f"{NOON * 1000:.0f}"]),
        pa.array(["2011-11-09T08:26:00Z", "2011-11-09 10:26:00+02:00"]),
        pa.array(["2011-11-09 08:26:00", "2011-11-09T08:26"]),
        pa.array(["2011-11-09T08:26:00Z", "2011-11-09 08:26:00"]),
        pa.array(["2011-11-09T08:26:00.000Z", f"{NOON:.0f}"]).dictionary_encode(),
    ],
)
def test_one_moment_reads_the_same_however_it_is_written(tmp_path: Path, times: Any) -> None:
    """Timestamps, Unix seconds and milliseconds, and ISO text with or without a zone give the same time."""
    events = read_events(write(tmp_path / "e.parquet", table(timestamp=times)))
    assert events.times.tolist() == [NOON, NOON]


def test_a_date_is_its_midnight(tmp_path: Path) -> None:
    """A date without a time is midnight UTC."""
    events = read_events(write(tmp_path / "e.parquet", table(timestamp=[date(2011, 11, 9)] * 2)))
    assert events.times[0] == datetime(2011, 11, 9, tzinfo=UTC).timestamp()


def test_events_after_until_are_ignored(tmp_path: Path) -> None:
    """What happened after `until` leaves no trace, not even its ids; what happened at that second stays."""
    given = table(user_id=["a", "b", "c"], item_id=["x", "y", "z"], timestamp=[NOON, NOON + 1, NOON + 2])
    events = read_events(write(tmp_path / "e.parquet", given), until=NOON + 1)
    assert (events.user_ids, events.item_ids, len(events)) == (["a", "b"], ["x", "y"], 2)


def test_types_weigh_as_documented_and_negative_ones_are_ignored(tmp_path: Path) -> None:
    """A purchase weighs 1, a cart 0.5, a view 0.2; returns, dismissals, bad ratings and those without stars do not."""
    kinds = ["purchase", "add_to_cart", "view", "return", "dismiss", "rating", "rating", None, "rating"]
    given = table(
        user_id=list("abcdefghi"),
        item_id=list("rstuvwxyz"),
        timestamp=[NOON + at for at in range(9)],
        event_type=kinds,
        value=[None, None, None, None, None, 1.0, 5.0, None, None],
    )
    events = read_events(write(tmp_path / "e.parquet", given))
    assert events.user_ids == list("abcgh")
    assert events.weights.tolist() == pytest.approx([1.0, 0.5, 0.2, 0.5, 1.0])
    assert events.purchases.tolist() == [True, False, False, False, True]


@given(st.permutations(range(6)))
def test_the_order_of_the_file_does_not_matter(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    """The same events in any order of rows give the same arrays."""
    path = tmp_path_factory.mktemp("order") / "e.parquet"
    rows = [
        ("a", "x", NOON),
        ("a", "y", NOON),
        ("b", "x", NOON),
        ("b", "x", NOON + 1),
        ("c", "z", 1.0),
        ("c", "x", 2.0),
    ]
    users, items, times = zip(*[rows[at] for at in order], strict=True)
    events = read_events(write(path, table(user_id=users, item_id=items, timestamp=times)))
    assert as_rows(events) == sorted(((*row, True) for row in rows), key=lambda row: (row[2], row[0], row[1]))


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing column": ({"item_id": None}, "events", "has no column item_id; it has user_id, timestamp"),
    "no time": ({"timestamp": ["2011-11-09", "soon"]}, "timestamp", "row 2 ('soon')"),
    "null time": ({"timestamp": pa.array([None, NOON])}, "timestamp", "row 1 (None)"),
    "date as a number": ({"timestamp": [20111109, 20111110]}, "timestamp", "rows 1 (20111109), 2 (20111110)"),
    "times of a wrong type": ({"timestamp": [True, False]}, "timestamp", "ISO 8601"),
    "microseconds": ({"timestamp": [int(NOON * 1e6)] * 2}, "timestamp", "Unix seconds or milliseconds"),
    "null id": ({"user_id": ["ann", None]}, "user_id", "has no id in row 2"),
    "empty id": ({"item_id": ["", "y"]}, "item_id", "has no id in row 1"),
    "long id": ({"item_id": ["x" * 257, "y"]}, "item_id", "longer than 256 bytes in row 1"),
    "fraction as id": ({"user_id": [1.5, 2.0]}, "user_id", "text or whole numbers"),
    "infinite value": ({"value": [1.0, float("inf")]}, "value", "no finite number in row 2 (inf)"),
    "value of text": ({"value": ["1", "much"]}, "value", "row 2 ('much')"),
    "unknown type": ({"event_type": ["purchase", "buy"]}, "event_type", "'buy' in row 2; the types are view"),
    "no purchase": ({"event_type": ["view", "view"]}, "events", "holds no purchase"),
    "one user": ({"user_id": ["ann", "ann"]}, "events", "one user only ('ann')"),
    "one item": ({"item_id": ["x", "x"]}, "events", "one item only ('x')"),
    "no rows": ({"user_id": [], "item_id": [], "timestamp": []}, "events", "holds no events"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_file_column_and_row(tmp_path: Path, case: str) -> None:
    """Each fault is refused with the file, the column, the first bad rows and what is accepted."""
    columns, field, words = BAD[case]
    path = write(tmp_path / "orders.parquet", table(**columns))
    with pytest.raises(InvalidInput) as refused:
        read_events(path)
    fields = dict(refused.value.violations)
    assert field in fields
    assert "orders.parquet" in fields[field]
    assert words in fields[field]


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Faults in several columns come in one refusal, and of many rows the first three are named."""
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,timestamp,value\n" + ",x,never,1\n" * 5)
    with pytest.raises(InvalidInput) as refused:
        read_events(path)
    fields = dict(refused.value.violations)
    assert list(fields) == ["user_id", "timestamp"]
    assert "rows 1, 2, 3 and 2 more" in fields["user_id"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "is not there"),
        ("empty.csv", b"", "holds no events"),
        ("e.xlsx", b"PK", "must end in one of"),
        ("e.parquet", b"no parquet", "cannot be read"),
        ("e.csv", b"user_id,item_id,timestamp\na,b\n", "cannot be read"),
        ("e.csv", b"user_id,item_id,timestamp\n\xff,b,1\nc,d,2\n", "cannot be read"),
        ("e.csv", b"user_id,user_id,item_id,timestamp\na,b,c,1\n", "more than one column user_id"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    """A missing, empty, foreign or broken file is refused with its name and the reason."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=name) as refused:
        read_events(path)
    assert words in str(refused.value)


def test_wrong_options_are_refused() -> None:
    """Unknown columns, a separator of two characters and times that are none are refused with the way out."""
    with pytest.raises(InvalidInput, match="there is no column basket"):
        read_events(Path("e.csv"), Layout({"basket": "b"}))
    with pytest.raises(InvalidInput, match="one character"):
        read_events(Path("e.csv"), Layout(separator="::"))
    with pytest.raises(InvalidInput, match="user_id=NAME"):
        columns_from_text(["user_id"])
    for text in ("soon", "nan", "inf", "20111109"):
        with pytest.raises(InvalidInput, match="until"):
            parse_time(text, "until")
    assert parse_time("2011-11-09T08:26:00Z", "until") == parse_time(str(NOON), "until") == NOON


def test_until_before_all_events_is_refused(tmp_path: Path) -> None:
    """An `until` before the first event is refused with the time of that event."""
    with pytest.raises(InvalidInput, match="the first is of 2011-11-09T08:26:00Z"):
        read_events(write(tmp_path / "e.parquet", table()), until=NOON - 1)


def test_between_takes_the_end_and_not_the_start() -> None:
    """A window holds what is after its start and up to its end, so that windows side by side share nothing."""
    times = np.arange(5.0)
    events = Events(
        ["a"], ["x"], np.zeros(5, np.int32), np.zeros(5, np.int32), times, np.ones(5, np.float32), np.ones(5, np.bool_)
    )
    assert events.between(1.0, 3.0).times.tolist() == [2.0, 3.0]
    assert not events.between(9.0, 10.0).enough
