"""Changes: what is said of a user, by a shop, a person or a rule, where an event is what the user did."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tidings_core.events import AHEAD_MS, EARLIEST_MS, Event, id_fault
from tidings_core.faults import Fault, text_fault
from tidings_core.preferences import Value, preference_faults

AttributeValue = str | tuple[str, ...] | float | bool
"""By kind: a text (keyword), texts (tags), a number, "YYYY-MM-DD" (date), Unix seconds (time), true or false (flag)."""

MAX_CHANGED = 100
"""So many attributes, and so many tags, one change may set or remove."""
MAX_TAGS = 100
"""So many tags set by hand one user may have."""
MAX_NAME_BYTES = 128
MAX_SOURCE_BYTES = 64
MAX_WEIGHT = 1000.0
LATEST_MS = 253_402_300_799_000
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True)
class TagSetting:
    """A tag that is set: how much it says, and when it ends (Unix milliseconds, 0: never)."""

    weight: float = 1.0
    expires: int = 0


@dataclass(frozen=True, slots=True)
class Update:
    """Attributes and tags that were set, or removed (None), and who says so."""

    attributes: Mapping[str, AttributeValue | None] = field(default_factory=dict)
    tags: Mapping[str, TagSetting | None] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class TagMove:
    """A tag that a rule gives was found to have come, or to have gone."""

    tag: str
    entered: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What the person said about preferences and consent, by the names that `preferences` has."""

    words: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Merge:
    """Another id was found to be the same person: what was known under it is known of this user since."""

    visitor_id: str


What = Update | TagMove | Said | Merge


def base_of(tag: str) -> str:
    """The family of a tag, which is the name of the rule that gives it, if one does: "lifecycle" of "lifecycle:new"."""
    return tag.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a profile, an entry of the log like an event. `time` is Unix milliseconds."""

    event_id: str
    user_id: str
    time: int
    what: What


Logged = Event | Change
"""What the log holds."""


def change_faults(change: Change, now_ms: int) -> list[Fault]:
    """All that is wrong with a change by itself at `now_ms` (Unix milliseconds), [] for nothing."""
    found = [("event_id", id_fault(change.event_id)), ("user_id", id_fault(change.user_id))]
    found.append(("event_time", _time_fault(change.time, now_ms)))
    if isinstance(change.what, Update):
        found += _update_checks(change.what)
    elif isinstance(change.what, Said):
        found += [(f"preferences.{field}", problem) for field, problem in preference_faults(change.what.words)]
    return [(where, problem) for where, problem in found if problem]


def _update_checks(update: Update) -> Iterator[Fault]:
    yield "source", text_fault(update.source, MAX_SOURCE_BYTES)
    if not update.attributes and not update.tags:
        yield "attributes", "is empty, and so are the tags and what is to be removed: name what is to change"
    for named, changed in (("attributes", update.attributes), ("tags", update.tags)):
        if len(changed) > MAX_CHANGED:
            yield named, f"has {len(changed)} entries with those to remove, may have {MAX_CHANGED} at most"
    if len(update.tags) > MAX_CHANGED:
        return
    for name, setting in update.tags.items():
        at = f"tags[{name!r:.80}]"
        yield at, text_fault(name, MAX_NAME_BYTES, 1)
        if setting is None:
            continue
        # Written so that NaN is refused too.
        if not (math.isfinite(setting.weight) and 0.0 < setting.weight <= MAX_WEIGHT):
            yield f"{at}.weight", f"is {setting.weight:g}, must be above 0 and {MAX_WEIGHT:g} at most"
        if setting.expires and not EARLIEST_MS <= setting.expires <= LATEST_MS:
            yield f"{at}.expire_time", "must be of the years 2000 to 9999"


def _time_fault(time: int, now_ms: int) -> str:
    if time < EARLIEST_MS:
        return "is before 2000-01-01: is it in seconds?"
    if time > now_ms + AHEAD_MS:
        ahead = (time - now_ms) / 1000
        return f"is {ahead:.0f} s ahead of the server's clock, may be {AHEAD_MS // 1000} s at most: check the clocks"
    return ""
