"""A catalogue from any of its formats shows the same items, and every bad cell is told at once."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.index_builder.shop import write_table
from tidings.v1 import item_pb2
from tidings_core.errors import InvalidInput
from tidings_index_builder.catalogue import Catalogue, read_catalogue

MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)
COLUMNS: dict[str, Any] = {
    "id": ["a", "b"],
    "title": ["Lamp", "纸灯笼"],
    "description": ["Warm light", None],
    "categories": [["Home", "Light"], []],
    "brand": ["Lumo", None],
    "price": [12.5, None],
    "currency": ["EUR", None],
    "available": [True, False],
    "stock": [3, 0],
    "image": ["https://example.org/a.png", None],
    "url": ["https://example.org/a", None],
    "publish_time": [MOMENT, None],
    "expire_time": [MOMENT, None],
    "colour": ["red", None],
    "size": [38, 40],
    "internal": ["x", "y"],
}
FIRST = item_pb2.Item(
    item_id="a",
    title="Lamp",
    description="Warm light",
    categories=["Home", "Light"],
    brand="Lumo",
    price=12.5,
    currency="EUR",
    image_url="https://example.org/a.png",
    url="https://example.org/a",
    attributes={"colour": "red", "size": "38"},
)
FIRST.publish_time.FromDatetime(MOMENT)
FIRST.expire_time.FromDatetime(MOMENT)
SECOND = item_pb2.Item(item_id="b", title="纸灯笼", attributes={"size": "40"})


def shown(catalogue: Catalogue) -> list[item_pb2.Item]:
    """The items as a shop would show them."""
    return [item_pb2.Item.FromString(payload) for payload in catalogue.payloads]


def kept(catalogue: Catalogue) -> dict[str, tuple[str, list[Any]]]:
    """The kind of each attribute, and its value for every item."""
    rows = range(len(catalogue.ids))
    return {name: (found.kind, [found.at(row) for row in rows]) for name, found in catalogue.attributes.items()}


def _csv(path: Path) -> Path:
    path.write_text(
        "id,title,description,categories,brand,price,currency,available,stock,image,url,publish_time,expire_time,"
        "colour,size,internal\n"
        "a,Lamp,Warm light,Home > Light,Lumo,12.50,EUR,true,3,https://example.org/a.png,https://example.org/a,"
        "2024-05-01T12:00:00Z,1714564800,red,38,x\n"
        "b,纸灯笼,,,,,,no,0,,,,,,40,y\n"
    )
    return path


def _feather(path: Path) -> Path:
    pa.feather.write_feather(pa.table(COLUMNS), str(path))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".feather"])
def test_every_format_shows_the_same_items(tmp_path: Path, suffix: str) -> None:
    """Parquet, CSV and Arrow of one catalogue give the same payloads, prices, attributes and notes."""
    path = tmp_path / f"catalogue{suffix}"
    {".parquet": lambda path: write_table(path, **COLUMNS), ".csv": _csv, ".feather": _feather}[suffix](path)
    found = read_catalogue(path, ("colour", "size:number"))
    assert shown(found) == [FIRST, SECOND]
    np.testing.assert_array_equal(found.prices, np.array([12.5, np.nan], np.float32))
    assert kept(found) == {
        "category": ("keyword", ["Light", None]),
        "categories": ("tags", [("Home", "Light"), ()]),
        "brand": ("keyword", ["Lumo", None]),
        "price": ("number", [12.5, None]),
        "currency": ("keyword", ["EUR", None]),
        "available": ("flag", [True, False]),
        "stock": ("number", [3.0, 0.0]),
        "publish_time": ("time", [MOMENT.timestamp(), None]),
        "expire_time": ("time", [MOMENT.timestamp(), None]),
        "colour": ("keyword", ["red", None]),
        "size": ("number", [38.0, 40.0]),
    }
    assert found.notes == ("columns left out: internal (name the ones to keep with --attribute)",)


FURTHER: dict[str, Any] = {
    "colour": ["red", None],
    "size": [38, 40],
    "weight": [0.25, None],
    "organic": [True, None],
    "harvest": [MOMENT, None],
    "material": [["wool", "silk", "wool"], None],
}


@pytest.mark.parametrize(
    ("names", "values", "words"),
    [
        (
            tuple(FURTHER),
            {
                "colour": ("keyword", ["red", None]),
                "size": ("number", [38.0, 40.0]),
                "weight": ("number", [0.25, None]),
                "organic": ("flag", [True, None]),
                "harvest": ("time", [MOMENT.timestamp(), None]),
                "material": ("tags", [("wool", "silk"), ()]),
            },
            {"material": "wool, silk, wool", "weight": "0.25", "organic": "true", "harvest": "2024-05-01T12:00:00Z"},
        ),
        (("size:keyword",), {"size": ("keyword", ["38", "40"])}, {"size": "38"}),
        (("colour:tags",), {"colour": ("tags", [("red",), ()])}, {"colour": "red"}),
    ],
)
def test_a_further_attribute_is_of_the_kind_of_its_column_or_of_the_one_that_is_said(
    tmp_path: Path, names: tuple[str, ...], values: dict[str, Any], words: dict[str, str]
) -> None:
    """Numbers, flags, times and lists keep their types, and are shown as text with the item."""
    found = read_catalogue(write_table(tmp_path / "c.parquet", id=["a", "b"], **FURTHER), names)
    assert kept(found) == values
    assert words.items() <= dict(shown(found)[0].attributes).items()


def test_text_is_of_the_kind_that_is_said(tmp_path: Path) -> None:
    """A CSV file has no types: NAME:KIND gives them, and a cell that does not fit is told."""
    path = tmp_path / "c.csv"
    path.write_text('id,material,organic,harvest,size\na,"wool, silk",yes,2024-05-01T12:00:00Z,38.5\nb,,no,,XL\n')
    found = read_catalogue(path, ("material:tags", "organic:flag", "harvest:time", "size"))
    assert kept(found) == {
        "material": ("tags", [("wool", "silk"), ()]),
        "organic": ("flag", [True, False]),
        "harvest": ("time", [MOMENT.timestamp(), None]),
        "size": ("keyword", ["38.5", "XL"]),
    }
    with pytest.raises(InvalidInput, match=r"column size: must be a finite number, but is not in row 1 \('XL'\)"):
        read_catalogue(path, ("size:number",))


def test_a_catalogue_needs_no_more_than_ids(tmp_path: Path) -> None:
    """Only `id` must be there; what has no column is neither shown nor an attribute."""
    found = read_catalogue(write_table(tmp_path / "c.parquet", id=[7, 8]))
    assert shown(found) == [item_pb2.Item(item_id="7"), item_pb2.Item(item_id="8")]
    assert dict(found.attributes) == {}


def test_text_in_csv_stays_as_it_is_written(tmp_path: Path) -> None:
    """Ids with leading zeros, the title "NULL" and quoted line breaks are not guessed into something else."""
    path = tmp_path / "c.csv"
    path.write_text('id,title\n007,NULL\n08,"two\nlines"\n')
    assert shown(read_catalogue(path)) == [
        item_pb2.Item(item_id="007", title="NULL"),
        item_pb2.Item(item_id="08", title="two\nlines"),
    ]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([date(2024, 5, 1)], 1714521600),
        ([1714564800], 1714564800),
        ([1714564800.75], 1714564800),
        (["2024-05-01"], 1714521600),
        (["2024-05-01T14:00:00+02:00"], 1714564800),
        (pa.array([1714564800 * 10**9], pa.timestamp("ns")), 1714564800),
        (pa.array([1714564800 * 1000], pa.timestamp("ms", "Europe/Paris")), 1714564800),
    ],
)
def test_a_time_is_understood_in_every_way_it_is_written(tmp_path: Path, values: Any, seconds: int) -> None:
    """Dates, timestamps of any unit and zone, Unix seconds and ISO 8601 name the same second; UTC unless said."""
    found = read_catalogue(write_table(tmp_path / "c.parquet", id=["a"], publish_time=values))
    assert shown(found)[0].publish_time.seconds == seconds


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.dictionaries(
        st.text("abcé灯", min_size=1, max_size=6),
        st.tuples(
            st.one_of(st.none(), st.text(max_size=8)),
            st.one_of(st.none(), st.floats(0, 1e6)),
            st.lists(st.text("xyz", min_size=1, max_size=3), max_size=3),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_a_catalogue_says_is_what_is_shown(
    tmp_path: Path, rows: dict[str, tuple[str | None, float | None, list[str]]]
) -> None:
    """Any titles, prices and categories come through unchanged."""
    path = write_table(
        tmp_path / "c.parquet",
        id=list(rows),
        title=pa.array([title for title, _, _ in rows.values()], pa.string()),
        price=pa.array([price for _, price, _ in rows.values()], pa.float64()),
        categories=pa.array([names for _, _, names in rows.values()], pa.list_(pa.string())),
    )
    for item, (name, (title, price, categories)) in zip(shown(read_catalogue(path)), rows.items(), strict=True):
        assert (item.item_id, item.title, list(item.categories)) == (name, title or "", categories)
        assert (item.price if item.HasField("price") else None) == price


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"price": [1.0, -0.5]}, r"column price: must be a number of 0 or more; .* not in row 1 \(-0.5\)"),
        ({"price": [float("nan"), 1.0]}, r"not in row 0 \(nan\)"),
        ({"price": ["12,50", "3"]}, r"not in row 0 \('12,50'\)"),
        ({"price": [1e300, 1.0]}, r"not in row 0 \(1e\+300\)"),
        ({"stock": [1, -1]}, r"column stock: must be a number of 0 or more, but is not in row 1 \(-1\)"),
        ({"available": ["maybe", "yes"]}, r"column available: must be true or false, .* row 0 \('maybe'\)"),
        ({"publish_time": ["yesterday", None]}, r"column publish_time: must be a timestamp, .* row 0 \('yesterday'\)"),
        ({"expire_time": [10**15, 1]}, r"column expire_time: .* in the years 1 to 9999, but is not in row 0"),
        ({"title": [[1], [2]]}, r"column title is list<.*>, must be text"),
        ({"id": ["a", "a"]}, r"column id: an id may stand once, but 'a' repeat"),
        ({"id": ["a", ""]}, r"the id is empty in row 1"),
        ({"id": []}, r"has no rows"),
        ({"name": ["x", "y"], "id": None}, r"has no column id; it has name"),
    ],
)
def test_a_bad_cell_is_refused_by_column_row_and_value(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    """What cannot be shown or compared is told where it stands."""
    given_columns = {name: values for name, values in ({"id": ["a", "b"]} | columns).items() if values is not None}
    path = write_table(tmp_path / "c.parquet", **given_columns)
    with pytest.raises(InvalidInput, match=expected):
        read_catalogue(path)


def test_all_bad_columns_are_told_at_once(tmp_path: Path) -> None:
    """One run names every column that must be put right."""
    path = write_table(tmp_path / "c.parquet", id=["a"], price=[-1.0], stock=[-1], available=["?"])
    with pytest.raises(InvalidInput) as refused:
        read_catalogue(path)
    assert len(refused.value.violations) == 3


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("price",), "price is a column of every catalogue"),
        (("category",), "category is a column of every catalogue"),
        (("the colour",), "'the colour' must be 1 to 64 letters"),
        (("colour", "colour"), "colour is named more than once"),
        (("flavour",), "has no column flavour"),
        (("colour:shade",), "'colour:shade' must be NAME or NAME:KIND, of a kind of keyword, tags, number, time, flag"),
    ],
)
def test_an_attribute_that_cannot_be_kept_is_refused(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    """Attribute names are columns of their own, once, with plain names."""
    path = write_table(tmp_path / "c.parquet", id=["a"], colour=["red"], price=[1.0])
    with pytest.raises(InvalidInput, match=expected):
        read_catalogue(path, names)
