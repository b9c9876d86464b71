"""What is stated of a user: attributes, tags set by hand, and which tags of rules were found last. A part of a profile.

Of each name the newest word stands, by time and then by a hash of its event's id, a removal being a word too: the order
of arrival cannot matter. Of all names the newest MOST words are kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, TypeVar

from tidings_core.changes import AttributeValue, Change, TagMove, TagSetting, Update
from tidings_core.tables import hash_id

MOST = 256
"""Words of each sort that are kept, removals among them."""


@dataclass(frozen=True, slots=True)
class AttributeWord:
    """The newest word about an attribute. `value` None: it was removed. `time` is Unix milliseconds."""

    time: int
    key: int
    source: str
    value: AttributeValue | None


@dataclass(frozen=True, slots=True)
class TagWord:
    """The newest word about a tag set by hand. `setting` None: it was removed. `time` is Unix milliseconds."""

    time: int
    key: int
    source: str
    setting: TagSetting | None


@dataclass(frozen=True, slots=True)
class Found:
    """Whether a tag of a rule was there when it was looked at last, and since when. `time` is Unix milliseconds."""

    time: int
    key: int
    there: bool


@dataclass(frozen=True, slots=True)
class Stated:
    """Attributes, tags set by hand, and tags of rules as they were found last, by name. The dicts are shared."""

    attributes: Mapping[str, AttributeWord] = field(default_factory=dict)
    tags: Mapping[str, TagWord] = field(default_factory=dict)
    found: Mapping[str, Found] = field(default_factory=dict)

    def values(self) -> dict[str, AttributeValue]:
        """The attributes that have a value."""
        return {name: word.value for name, word in self.attributes.items() if word.value is not None}

    def tags_at(self, now_ms: int) -> dict[str, TagWord]:
        """The tags set by hand that hold at `now_ms` (Unix milliseconds)."""
        return {
            name: word
            for name, word in self.tags.items()
            if word.setting is not None and (not word.setting.expires or word.setting.expires > now_ms)
        }

    @property
    def found_tags(self) -> frozenset[str]:
        """The tags of rules that were there when they were looked at last."""
        return frozenset(name for name, found in self.found.items() if found.there)


EMPTY = Stated()
_Word = TypeVar("_Word", AttributeWord, TagWord, Found)


def fold(stated: Stated, changes: Iterable[Change]) -> Stated:
    """What is stated after more changes, in any order; those that state nothing are passed over."""
    attributes: dict[str, AttributeWord] = {}
    tags: dict[str, TagWord] = {}
    found: dict[str, Found] = {}
    for change in changes:
        time, key, what = change.time, hash_id(change.event_id.encode()), change.what
        if isinstance(what, Update):
            for name, value in what.attributes.items():
                _say(attributes, name, AttributeWord(time, key, what.source, value))
            for name, setting in what.tags.items():
                _say(tags, name, TagWord(time, key, what.source, setting))
        elif isinstance(what, TagMove):
            _say(found, what.tag, Found(time, key, what.entered))
    if not (attributes or tags or found):
        return stated
    return join(stated, Stated(attributes, tags, found))


def join(first: Stated, second: Stated) -> Stated:
    """What is stated in either: of each name the newer word."""
    return Stated(
        _newest(first.attributes, second.attributes),
        _newest(first.tags, second.tags),
        _newest(first.found, second.found),
    )


def _say(words: dict[str, _Word], name: str, word: _Word) -> None:
    old = words.get(name)
    if old is None or (old.time, old.key) < (word.time, word.key):
        words[name] = word


def _newest(first: Mapping[str, _Word], second: Mapping[str, _Word]) -> Mapping[str, _Word]:
    if not second:
        return first
    joined = dict(first)
    for name, word in second.items():
        _say(joined, name, word)
    if len(joined) <= MOST:
        return joined
    return dict(nlargest(MOST, joined.items(), key=lambda entry: (entry[1].time, entry[1].key, entry[0])))


def to_json(stated: Stated) -> dict[str, Any]:
    """What is stated as values that fit JSON, the same for equal ones."""
    return {
        "attributes": sorted((n, w.time, w.key, w.source, w.value) for n, w in stated.attributes.items()),
        "tags": sorted(
            (n, w.time, w.key, w.source, None if w.setting is None else (w.setting.weight, w.setting.expires))
            for n, w in stated.tags.items()
        ),
        "found": sorted((n, f.time, f.key, f.there) for n, f in stated.found.items()),
    }


def from_json(fields: Mapping[str, Any]) -> Stated:
    """What `to_json` made values of. Raises ValueError, KeyError or TypeError when they are none."""
    return Stated(
        attributes={
            name: AttributeWord(time, key, source, tuple(value) if isinstance(value, list) else value)
            for name, time, key, source, value in fields.get("attributes", ())
        },
        tags={
            name: TagWord(time, key, source, None if setting is None else TagSetting(*setting))
            for name, time, key, source, setting in fields.get("tags", ())
        },
        found={name: Found(time, key, there) for name, time, key, there in fields.get("found", ())},
    )
