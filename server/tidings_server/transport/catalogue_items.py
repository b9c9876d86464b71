"""Items of the catalogue to and from bytes: what a shop says, checked; what is stored, described; what is shown."""

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import attribute_pb2, item_pb2
from tidings.v1 import catalog_service_pb2 as pb
from tidings_core import text
from tidings_core.attributes import Kind
from tidings_core.catalogue import (
    AHEAD_US,
    MAX_ATTRIBUTE_VALUES,
    MAX_ATTRIBUTES,
    PARTS,
    Description,
    PartName,
    Value,
    Word,
)
from tidings_core.events import id_fault
from tidings_core.faults import Fault, text_fault
from tidings_core.model import MAX_CATEGORY_BYTES
from tidings_server.application.read_items import ShownItem

STANDARD: Mapping[str, Kind] = {
    "category": "keyword",
    "categories": "tags",
    "brand": "keyword",
    "price": "number",
    "currency": "keyword",
    "stock": "number",
    "available": "flag",
    "publish_time": "time",
    "expire_time": "time",
}
"""The attributes that have fields of their own."""
MAX_ITEM_BYTES = 65_536
MAX_CATEGORIES = 32
_KINDS: Mapping[str, Kind] = {"text": "keyword", "texts": "tags", "number": "number", "time": "time", "flag": "flag"}
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_-]{0,63}\Z")
_LARGEST_PRICE = float(np.finfo(np.float32).max)
_PRICE = b"\x31"  # Item.price: field number and wire type
_MIN_SECONDS = -62_135_596_800  # The first second of the year 1.
_MAX_SECONDS = 253_402_300_799  # The last second of the year 9999, the largest that a Timestamp may hold.


class ItemCodec:
    """What is stored of items, described."""

    def describe(self, described: bytes) -> Description:
        """A description that was stored, decoded. Raises ValueError."""
        try:
            message = pb.CatalogItem.FromString(described)
        except DecodeError as error:
            raise ValueError(f"its bytes are damaged: {error}") from error
        item = message.item
        values: dict[str, Value | None] = {
            "category": item.categories[-1] if item.categories else None,
            "categories": tuple(item.categories) or None,
            "brand": item.brand or None,
            "currency": item.currency or None,
            "price": item.price if item.HasField("price") else None,
            "stock": message.stock if message.HasField("stock") else None,
            "available": message.available if message.HasField("available") else None,
            "publish_time": _seconds(item.publish_time) if item.HasField("publish_time") else None,
            "expire_time": _seconds(item.expire_time) if item.HasField("expire_time") else None,
        }
        kinds: dict[str, Kind] = dict(STANDARD)
        for name, value in message.attributes.items():
            kind, told = _value(value)
            values[name], kinds[name] = told, kind
        said = {name: value for name, value in values.items() if value is not None}
        return Description(
            payload=item.SerializeToString(),
            title=item.title,
            fields=text.item_fields(item.title, item.description, item.categories, item.brand),
            categories=tuple(item.categories),
            values=said,
            kinds={name: kinds[name] for name in said},
        )

    def priced(self, payload: bytes, price: float) -> bytes:
        """What is shown of an item, with another price: of a field that comes twice, protobuf takes the last."""
        return payload + _PRICE + struct.pack("<d", price)


def read_item(message: pb.CatalogItem, parts: Sequence[PartName], now_us: int) -> tuple[Word, list[Fault]]:
    """What a message says of an item, all of it or `parts` alone; and what is wrong with it, by field.

    `now_us` is Unix microseconds.
    """
    faults = [("item.item_id", problem)] if (problem := id_fault(message.item.item_id)) else []
    time, problem = read_time(message, now_us)
    if problem:
        faults.append(("update_time", problem))
    said, wrong = _parts(message)
    if parts:
        missing = [(_field(name), "is missing, and update_mask names it") for name in parts if name not in said]
        asked = [fault for fault in wrong if fault[0] in map(_field, parts)]
        return Word(message.item.item_id, time, parts={n: said[n] for n in parts if n in said}), [
            *faults,
            *missing,
            *asked,
        ]
    faults += [*wrong, *_described_faults(message)]
    stored = pb.CatalogItem()
    stored.CopyFrom(message)
    stored.ClearField("vector")
    stored.ClearField("update_time")
    vector = np.array(message.vector, np.float32)
    word = Word(message.item.item_id, time, stored.SerializeToString(deterministic=True), vector=vector.tobytes())
    return word, faults


def read_mask(paths: Sequence[str]) -> tuple[list[PartName], list[Fault]]:
    """The parts that an update_mask names, and what is wrong with it."""
    unknown = sorted({path for path in paths if path not in PARTS})
    if unknown:
        return [], [("update_mask", f"names {', '.join(unknown)[:200]}; it may name {', '.join(PARTS)}")]
    return [name for name in PARTS if name in paths], []


def read_time(message: pb.CatalogItem | pb.DeleteItemsRequest, now_us: int) -> tuple[int, str]:
    """The update_time of a message in Unix microseconds, and what is wrong with it."""
    stamp = message.update_time
    if not message.HasField("update_time"):
        return 0, "is missing: say when the shop made this change"
    if not (0 <= stamp.nanos < 1_000_000_000 and 0 <= stamp.seconds <= _MAX_SECONDS):
        return 0, "must be of the years 1970 to 9999, with nanos of 0 to 999,999,999"
    time = stamp.seconds * 1_000_000 + stamp.nanos // 1000
    if time > now_us + AHEAD_US:
        return 0, "is more than a day ahead of the server's clock: later changes could not win over it"
    return time, "" if time else "must be later than the beginning of 1970"


def read_kinds(message: pb.CatalogItem) -> dict[str, Kind]:
    """The kind of each typed attribute that is said."""
    return {name: _value(value)[0] for name, value in message.attributes.items() if value.WhichOneof("value")}


def show(shown: ShownItem) -> pb.CatalogItem:
    """An item as it is served."""
    message = pb.CatalogItem(item=item_pb2.Item.FromString(shown.payload))
    for name, (kind, value) in shown.values.items():
        if name == "available":
            message.available = bool(value)
        elif name == "stock" and isinstance(value, int | float):
            message.stock = value
        elif name not in STANDARD:
            _fill(message.attributes[name], kind, value)
    if shown.time:
        message.update_time.FromMicroseconds(shown.time)
    return message


def _field(name: PartName) -> str:
    return "item.price" if name == "price" else name


def _parts(message: pb.CatalogItem) -> tuple[dict[PartName, float], list[Fault]]:
    """What is said of parts, and what is wrong with it."""
    said: dict[PartName, float] = {}
    faults = []
    if message.item.HasField("price"):
        said["price"] = message.item.price
        if not 0.0 <= message.item.price <= _LARGEST_PRICE:
            faults.append(("item.price", "must be a number of 0 or more"))
    if message.HasField("stock"):
        said["stock"] = message.stock
        if not 0.0 <= message.stock < math.inf:
            faults.append(("stock", "must be a number of 0 or more"))
    if message.HasField("available"):
        said["available"] = float(message.available)
    return said, faults


def _described_faults(message: pb.CatalogItem) -> Iterator[Fault]:
    """What is wrong with a description, parts aside."""
    item = message.item
    if (size := item.ByteSize()) > MAX_ITEM_BYTES:
        yield "item", f"has {size} bytes, may have {MAX_ITEM_BYTES} at most"
    if len(item.categories) > MAX_CATEGORIES:
        yield "item.categories", f"has more than {MAX_CATEGORIES} entries"
    for at, name in enumerate(item.categories[:MAX_CATEGORIES]):
        if problem := text_fault(name, MAX_CATEGORY_BYTES, 1):
            yield f"item.categories[{at}]", problem
    for field in ("brand", "currency"):
        if problem := text_fault(getattr(item, field), MAX_CATEGORY_BYTES):
            yield f"item.{field}", problem
    for field in ("publish_time", "expire_time"):
        if problem := _moment_fault(getattr(item, field)):
            yield f"item.{field}", problem
    if not np.isfinite(np.array(message.vector, np.float32)).all():
        yield "vector", "must have finite numbers"
    elif message.vector and not any(message.vector):
        yield "vector", "is zero: leave it out to have one made"
    if len(message.attributes) > MAX_ATTRIBUTES:
        yield "attributes", f"has more than {MAX_ATTRIBUTES} entries"
    for name, value in sorted(message.attributes.items())[:MAX_ATTRIBUTES]:
        if problem := _attribute_fault(name, value):
            yield f"attributes[{name[:64]}]", problem


def _attribute_fault(name: str, value: attribute_pb2.AttributeValue) -> str:
    if name in STANDARD:
        return "has a field of its own: set that"
    if not _NAME.match(name):
        return "must have a name of 1 to 64 letters, digits, '_' and '-'"
    which = value.WhichOneof("value")
    if which is None:
        return "has no value: set exactly one"
    if which == "text":
        return text_fault(value.text, MAX_CATEGORY_BYTES, 1)
    if which == "texts":
        if len(value.texts.values) > MAX_ATTRIBUTE_VALUES:
            return f"has more than {MAX_ATTRIBUTE_VALUES} texts"
        return next(filter(None, (text_fault(one, MAX_CATEGORY_BYTES, 1) for one in value.texts.values)), "")
    if which == "number" and not math.isfinite(value.number):
        return "must be a finite number"
    return _moment_fault(value.time) if which == "time" else ""


def _moment_fault(stamp: Timestamp) -> str:
    """What is wrong with a time that is stored as it came: nobody could write down one that is none."""
    if _MIN_SECONDS <= stamp.seconds <= _MAX_SECONDS and 0 <= stamp.nanos < 1_000_000_000:
        return ""
    return "must be of the years 1 to 9999, with nanos of 0 to 999,999,999"


def _value(value: attribute_pb2.AttributeValue) -> tuple[Kind, Value | None]:
    """The kind of an attribute and its value, None for none."""
    which = value.WhichOneof("value") or "text"
    if which == "texts":
        return "tags", tuple(value.texts.values) or None
    if which == "time":
        return "time", _seconds(value.time)
    told: Value = getattr(value, which)
    return _KINDS[which], None if told == "" else told


def _fill(message: attribute_pb2.AttributeValue, kind: Kind, value: Value) -> None:
    match kind, value:
        case "keyword", str():
            message.text = value
        case "tags", tuple():
            message.texts.values.extend(value)
        case "number", float() | int():
            message.number = value
        case "time", float() | int():
            message.time.FromNanoseconds(round(value * 1e9))
        case "flag", _:
            message.flag = bool(value)


def _seconds(stamp: Timestamp) -> float:
    return stamp.seconds + stamp.nanos / 1e9
