from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from prepare import CATALOGUE, EVENTS, SOURCE, Counts, categories, nice_title, prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Counts, Path]:
    """The real data set, prepared."""
    out = tmp_path_factory.mktemp("retail")
    return prepare(out), out


def test_the_source_is_the_published_data_set() -> None:
    """The file has the control totals of the data set: lines, invoices, codes, customers, units and money."""
    lines = pq.read_table(SOURCE)
    distinct = {name: pc.count_distinct(lines[name]).as_py() for name in ("invoice_no", "stock_code", "customer_id")}
    assert len(lines) == 541_909
    assert distinct == {"invoice_no": 25_900, "stock_code": 4_070, "customer_id": 4_372}
    assert pc.sum(lines["quantity"]).as_py() == 5_176_450
    assert pc.sum(pc.multiply(lines["quantity"], lines["unit_price"])).as_py() == pytest.approx(9_747_747.93, abs=0.01)


def test_every_line_is_accounted_for(prepared: tuple[Counts, Path]) -> None:
    """The lines of the source split into those left out, cancellations and sales, as its README says."""
    counts = prepared[0]
    assert counts.lines == 541_909
    assert counts.lines == sum((counts.not_goods, counts.guests, counts.not_sales, counts.cancellations, counts.sales))
    assert counts.cancellations == sum(
        (counts.cancellations_matched, counts.cancellations_partly_matched, counts.cancellations_unmatched)
    )
    assert counts == Counts(
        lines=541_909,
        not_goods=2_946,
        guests=134_050,
        not_sales=34,
        sales=396_340,
        cancellations=8_539,
        cancellations_matched=7_432,
        cancellations_partly_matched=51,
        cancellations_unmatched=1_056,
        sales_taken_back=2_810,
        events=383_615,
        users=4_324,
        items=3_646,
    )


def test_every_event_is_of_an_item_in_the_catalogue(prepared: tuple[Counts, Path]) -> None:
    """Events are purchases with money, in time order; the catalogue has each of their items once, priced and titled."""
    events, catalogue = (pq.read_table(prepared[1] / name) for name in (EVENTS, CATALOGUE))
    assert events.schema.names == ["user_id", "item_id", "timestamp", "event_type", "value"]
    assert pc.unique(events["event_type"]).to_pylist() == ["purchase"]
    assert pc.min(events["value"]).as_py() > 0
    assert np.all(np.diff(events["timestamp"].to_numpy()) >= np.timedelta64(0))
    assert sorted(catalogue["id"].to_pylist()) == sorted(pc.unique(events["item_id"]).to_pylist())
    assert pc.min(catalogue["price"]).as_py() > 0
    assert all(title and title[0] == title[0].upper() for title in catalogue["title"].to_pylist())
    by_id = {row["id"]: row for row in catalogue.to_pylist()}
    assert by_id["85123A"] == {
        "id": "85123A",
        "title": "White Hanging Heart T-Light Holder",
        "price": 2.95,
        "currency": "GBP",
        "family": "85123",
        "categories": ["Home", "Candle holders and lanterns"],
    }


def test_times_move_by_whole_weeks_and_nothing_else_does(prepared: tuple[Counts, Path], tmp_path: Path) -> None:
    """Shifting by weeks moves every event by as many times seven days, and changes nothing else."""
    assert prepare(tmp_path, shift_weeks=700) == prepared[0]
    still, moved = (pq.read_table(folder / EVENTS) for folder in (prepared[1], tmp_path))
    week = 7 * 24 * 3600 * 1000
    shift = pc.subtract(moved["timestamp"].cast(pa.int64()), still["timestamp"].cast(pa.int64()))
    assert pc.unique(shift).to_pylist() == [700 * week]
    assert moved.drop_columns("timestamp").equals(still.drop_columns("timestamp"))
    assert pq.read_table(tmp_path / CATALOGUE).equals(pq.read_table(prepared[1] / CATALOGUE))


def line(invoice: str, item: str, quantity: int, day: int, **other: Any) -> dict[str, Any]:
    """A line of the source."""
    return {
        "invoice_no": invoice,
        "stock_code": item,
        "description": f"THING {item}",
        "quantity": quantity,
        "invoice_date": datetime(2011, 1, day),
        "unit_price": 2.0,
        "customer_id": 1,
        **other,
    }


def prepare_lines(folder: Path, *lines: dict[str, Any]) -> tuple[Counts, list[tuple[str, str, float]]]:
    """Prepare a source of a few lines: counts, and events as user, item, money."""
    schema = pq.read_schema(SOURCE)
    pq.write_table(
        pa.Table.from_pylist([{"country": "Utopia", **each} for each in lines], schema), folder / "s.parquet"
    )
    counts = prepare(folder, folder / "s.parquet")
    events = pq.read_table(folder / EVENTS).to_pylist()
    return counts, [(event["user_id"], event["item_id"], event["value"]) for event in events]


def test_a_cancellation_takes_back_the_newest_earlier_purchase(tmp_path: Path) -> None:
    """Units given back come off the newest earlier sale first, then older ones; never off a later or another's."""
    counts, events = prepare_lines(
        tmp_path,
        line("1", "10001", 5, 1),
        line("2", "10001", 5, 2),
        line("3", "10001", 5, 2, customer_id=2),
        line("C4", "10001", -7, 3),
        line("5", "10001", 5, 4),
    )
    assert events == [("1", "10001", 6.0), ("2", "10001", 10.0), ("1", "10001", 10.0)]
    assert (counts.cancellations_matched, counts.sales_taken_back) == (1, 1)


def test_a_cancellation_without_its_purchase_is_dropped_and_counted(tmp_path: Path) -> None:
    """What was not bought before cannot be given back; giving back more than was bought is partly matched."""
    counts, events = prepare_lines(
        tmp_path,
        line("C1", "10001", -1, 1),
        line("2", "10001", 2, 2),
        line("3", "10002", 2, 2),
        line("C4", "10002", -5, 3),
    )
    assert events == [("1", "10001", 4.0)]
    assert (counts.cancellations_unmatched, counts.cancellations_partly_matched) == (1, 1)
    assert (counts.cancellations_matched, counts.sales_taken_back, counts.items) == (0, 1, 1)


def test_what_is_no_sale_of_goods_to_a_customer_is_left_out(tmp_path: Path) -> None:
    """Postage, fees, vouchers, guests and gifts are left out; an item twice on one invoice is one purchase."""
    counts, events = prepare_lines(
        tmp_path,
        line("1", "POST", 1, 1),
        line("1", "gift_0001_20", 1, 1),
        line("1", "C2", 1, 1),
        line("1", "10001", 1, 1, customer_id=None),
        line("1", "10002", 1, 1, unit_price=0.0),
        line("1", "DCGS0076", 1, 1),
        line("1", "10003a", 1, 1),
        line("1", "10003A", 2, 1),
    )
    assert events == [("1", "10003A", 6.0), ("1", "DCGS0076", 2.0)]
    assert (counts.not_goods, counts.guests, counts.not_sales, counts.sales, counts.events) == (3, 1, 1, 3, 2)


def test_titles_and_categories_are_made_for_people() -> None:
    """Titles lose their capitals sensibly; a category is that of the last product noun before a "with"."""
    assert nice_title("SET/6 RED SPOTTY PAPER CUPS") == "Set/6 Red Spotty Paper Cups"
    assert nice_title("CHILDREN'S APRON DOLLY GIRL") == "Children's Apron Dolly Girl"
    assert nice_title("QUEEN OF THE SKIES") == "Queen of the Skies"
    assert categories("Jam Jar with Green Lid and Mug") == ["Kitchen", "Tins, jars and storage"]
    assert categories("Lunch Bag Red Retrospot") == ["Bags"]
    assert categories("Something Else") == []
