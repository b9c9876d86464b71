"""The file of controls: what it may say, and that all its faults are told at once."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from tidings_core.controls import Boost, Bury, Control, Keep, Pin
from tidings_core.errors import InvalidInput
from tidings_core.filters import AnyOf, Filter, Range
from tidings_core.model import SERVING_CONFIGS, Diversity
from tidings_server.control_settings import ControlTable, read_controls

WHOLE = """
[control.garden-first]
kind = "boost"
items = { must = [{ attribute = "categories", any_of = ["Garden"] }] }
places = 5
serving_configs = ["for-you", "browse"]
start = 2026-04-01T00:00:00+02:00
end = "2026-07-01T00:00:00Z"
priority = 10

[control.cheap-last]
kind = "bury"
items = { must = [{ attribute = "price", number = { lt = 2.0 } }] }

[control.hero]
kind = "pin"
item_ids = ["85123A", "22423"]
position = 2
categories = ["Garden"]

[control.no-alcohol]
kind = "filter"
items = { must_not = [{ attribute = "categories", any_of = ["Wine"] }] }

[control.spread]
kind = "diversify"
attribute = "brand"
max_per_value = 2
"""


def read(folder: Path, text: str) -> tuple[Control, ...]:
    """The controls of a file with this text."""
    path = folder / "controls.toml"
    path.write_text(text)
    return read_controls(path, SERVING_CONFIGS)


def faults(folder: Path, text: str) -> dict[str, str]:
    """The faults of a file with this text."""
    with pytest.raises(InvalidInput) as caught:
        read(folder, text)
    return dict(caught.value.violations)


def test_every_kind_of_control_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Ordered by priority and then by name; times with their zone."""
    start = datetime(2026, 4, 1, tzinfo=timezone(timedelta(hours=2))).timestamp()
    assert read(tmp_path, WHOLE) == (
        Control(
            "garden-first",
            Boost(Filter(must=(AnyOf("categories", ("Garden",)),)), 5),
            ("for-you", "browse"),
            start=start,
            end=datetime(2026, 7, 1, tzinfo=UTC).timestamp(),
            priority=10,
        ),
        Control("cheap-last", Bury(Filter(must=(Range("price", lt=2.0),)))),
        Control("hero", Pin(("85123A", "22423"), 2), categories=("Garden",)),
        Control("no-alcohol", Keep(Filter(must_not=(AnyOf("categories", ("Wine",)),)))),
        Control("spread", Diversity("brand", 2)),
    )


def test_an_empty_file_holds_no_controls(tmp_path: Path) -> None:
    """A shop takes all rules out of force by emptying the file."""
    assert read(tmp_path, "") == ()


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    """Each with its control and field, the limit, and the way out."""
    found = faults(
        tmp_path,
        """
        [control.a]
        kind = "boost"
        items = { must = [{ attribute = "price", number = { gt = 5, lt = 2 } }] }
        places = 0
        serving_configs = ["for-you", "nowhere"]
        [control.b]
        kind = "pin"
        places = 3
        start = 2026-04-01T00:00:00
        [control.c]
        kind = "magic"
        [control.d]
        kind = "diversify"
        attribute = "brand"
        max_per_value = 1
        item_ids = ["x"]
        start = 2026-04-01T00:00:00Z
        end = 2026-04-01T00:00:00Z
        [control.e]
        kind = "bury"
        item = "x"
        [control.f]
        kind = "pin"
        [control."Not A Name"]
        kind = "filter"
        items = {}
        """,
    )
    assert "lets nothing through" in found["control.a.items.must[0].number"]
    assert "greater than or equal to 1" in found["control.a.places"]
    assert "is 'nowhere': not known; known are browse, cart" in found["control.a.serving_configs[1]"]
    assert found["control.b.start"].startswith("is 2026-04-01 00:00:00, must be a time with a zone")
    assert "'boost', 'bury', 'pin'" in found["control.c.kind"]
    assert found["control.d.item_ids"] == "is nothing for a diversify, which takes attribute, max_per_value"
    assert "not after its start" in found["control.d.end"]
    assert "known are kind, items, places" in found["control.e.item"]
    assert found["control.f.item_ids"] == "is missing: a pin needs it"
    assert any(field.startswith("control.Not A Name") for field in found)
    assert "empty" in found["control.Not A Name.items"]


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("[control.x", "controls", "is not TOML"),
        ("[controls.x]\nkind = 'pin'", "controls", "known are control"),
        (
            "[control.x]\nkind = 'filter'\nitems = { must = [{ attribute = 'a', number = { over = 1 } }] }",
            "control.x.items.must[0].number.over",
            "is no setting",
        ),
        ("[control.x]\nkind = 'pin'\nitem_ids = []", "control.x.item_ids", "at least 1"),
        ("[control.x]\nkind = 'pin'\nitem_ids = ['a']\nposition = 501", "control.x.position", "500"),
        ("[control.x]\nkind = 'boost'\nplaces = 3", "control.x.items", "is missing: a boost needs it"),
    ],
)
def test_a_fault_is_named_by_its_place(tmp_path: Path, text: str, field: str, said: str) -> None:
    """By the words of the file."""
    assert said in faults(tmp_path, text)[field]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason of the system."""
    with pytest.raises(InvalidInput, match="No such file"):
        read_controls(tmp_path / "none.toml", SERVING_CONFIGS)


def test_every_setting_of_a_control_is_described() -> None:
    """For the documents and the reader of the code."""
    assert all(field.description for field in ControlTable.model_fields.values())
