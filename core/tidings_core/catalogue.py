"""The catalogue between releases: what a shop says of its items, and what stands when it says several things.

Of each part of an item (its description, or its deletion; its price; its stock; whether it is available) the newest
word stands, so that the order in which words arrive cannot matter. A description says all parts at once. Of two words
of one time the same one wins always: a deletion before any, else the one whose bytes are larger.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from tidings_core.attributes import Kind
from tidings_core.text import Field

MAX_ITEMS = 1000
"""Items in one call."""
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_VALUES = 64
AHEAD_US = 86_400_000_000
"""So far ahead of the server's clock may an update_time be: a wrong one would keep all later ones out."""

PartName = Literal["price", "stock", "available"]
PARTS: tuple[PartName, ...] = ("price", "stock", "available")
Value = str | tuple[str, ...] | float | bool
"""Of a keyword, tags, a number or a time (Unix seconds), a flag."""


@dataclass(frozen=True, slots=True)
class Word:
    """One thing a shop says of an item, at `time` (Unix microseconds).

    A description (encoded, opaque), or its deletion (`described` b"" and no parts), or any of the parts alone. `parts`
    maps those that are said; with a description none is. A description may come with a `vector`, f32[D] as bytes, in
    the space `space`.
    """

    item_id: str
    time: int
    described: bytes = b""
    parts: Mapping[PartName, float] = field(default_factory=dict)
    vector: bytes = b""
    space: str = ""

    @property
    def deletes(self) -> bool:
        """Whether it takes the item out."""
        return not self.described and not self.parts


@dataclass(frozen=True, slots=True)
class ItemState:
    """All that stands of an item: its description, or that it is deleted, of `time` (Unix microseconds, 0: never said).

    `parts` are those said later than that, each with its time. The vector is that of the newest description that came
    with one, at `vector_time`, in the space `space`; b"" for none.
    """

    time: int = 0
    deleted: bool = False
    described: bytes = b""
    parts: Mapping[PartName, tuple[int, float]] = field(default_factory=dict)
    vector_time: int = 0
    space: str = ""
    vector: bytes = b""

    @property
    def newest(self) -> int:
        """Time of the newest word that stands."""
        return max([self.time, *(time for time, _ in self.parts.values())])

    def after(self, word: Word) -> "ItemState":
        """The state after a word; an equal one when it changes nothing."""
        if word.parts:
            newer = {
                name: (word.time, value)
                for name, value in word.parts.items()
                if word.time > self.time and (word.time, value) > self.parts.get(name, (0, 0.0))
            }
            return replace(self, parts={**self.parts, **newer}) if newer else self
        state = self
        if word.vector and (word.time, word.space, word.vector) > (self.vector_time, self.space, self.vector):
            state = replace(state, vector_time=word.time, space=word.space, vector=word.vector)
        if (word.time, word.deletes, word.described) <= (self.time, self.deleted, self.described):
            return state
        later = {name: said for name, said in self.parts.items() if said[0] > word.time}
        return replace(state, time=word.time, deleted=word.deletes, described=word.described, parts=later)

    def holds(self, word: Word) -> bool:
        """Whether just what a word says stands, said at its time."""
        if word.parts:
            return all(self.parts.get(name) == (word.time, value) for name, value in word.parts.items())
        said = (word.time, word.deletes, word.described)
        return (self.time, self.deleted, self.described) == said and word.vector in (b"", self.vector)

    def encode(self) -> bytes:
        """What is stored of it."""
        head = {
            "format": 1,
            "time": self.time,
            "deleted": self.deleted,
            "parts": self.parts,
            "vector": [self.vector_time, self.space, len(self.vector)],
        }
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + self.vector + self.described

    @classmethod
    def decode(cls, content: bytes) -> "ItemState":
        """The state that was stored; that of nothing for b"". Raises ValueError for what is none."""
        if not content:
            return cls()
        head, newline, rest = content.partition(b"\n")
        try:
            fields = json.loads(head)
            if not newline or fields["format"] != 1:
                raise ValueError("its format is not 1")
            parts = {name: (int(said[0]), float(said[1])) for name, said in fields["parts"].items()}
            vector_time, space, size = fields["vector"]
            return cls(
                int(fields["time"]), bool(fields["deleted"]), rest[size:], parts, vector_time, space, rest[:size]
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"it lacks what it must hold: {error}") from error


@dataclass(frozen=True, slots=True)
class Description:
    """What a description says, decoded: the item as it is shown (`payload`), its words, and its typed attributes.

    `fields` are what search looks at; `categories` go from broad to narrow; `values` holds every attribute that is
    said, `kinds` the kind of each.
    """

    payload: bytes
    title: str = ""
    fields: tuple[Field, ...] = ()
    categories: tuple[str, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What stands of an item, as a delta takes it in: it is deleted, or described, or only parts of it changed.

    `time` is that of the description or deletion, `newest` that of the newest word (Unix microseconds). `parts` stand
    beside the description, or beside what the release says of the item; then `payload` is what is shown of it, with its
    new price. `vector` is f32[D] as bytes, b"" for none, of the space `space`.
    """

    item_id: str
    time: int
    newest: int
    deleted: bool = False
    description: Description | None = None
    parts: Mapping[PartName, float] = field(default_factory=dict)
    payload: bytes = b""
    vector: bytes = b""
    space: str = ""


def encode_change(change: Change) -> bytes:
    """A change as one line of JSON, for another process."""
    fields = asdict(change)
    for holder, name in ((fields, "payload"), (fields, "vector"), (fields["description"] or {}, "payload")):
        if name in holder:
            holder[name] = b64encode(holder[name]).decode()
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode_change(line: bytes) -> Change:
    """The change of a line. Raises ValueError for what is none."""
    try:
        fields = json.loads(line)
        described = fields["description"]
        if described is not None:
            described["payload"] = b64decode(described["payload"])
            described["fields"] = tuple((text, weight) for text, weight in described["fields"])
            described["categories"] = tuple(described["categories"])
            values = described["values"].items()
            described["values"] = {name: tuple(v) if isinstance(v, list) else v for name, v in values}
            fields["description"] = Description(**described)
        fields["payload"], fields["vector"] = b64decode(fields["payload"]), b64decode(fields["vector"])
        return Change(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no change of an item: {error}") from error
