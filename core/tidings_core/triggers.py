"""Triggers: which events call for a push."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tidings_core.changes import TagMove, base_of
from tidings_core.events import Event, EventType
from tidings_core.expressions import Expression
from tidings_core.profile import Profile, RecentEvent
from tidings_core.tables import hash_id

Of = Literal["any", "item", "category"]
Move = Literal["entered", "left"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A rule: `count` events of a type within `within_seconds` call for a push, and then it counts anew.

    `of` narrows a view to items or to a category. With `same`, only events that share an item or the category with the
    newest one count. An event older than `max_age_seconds` calls for nothing. `serving_config` and `k` say what is
    recommended, `template` how it is said; `ttl_seconds` and `collapse_key` are those of the push. For one user it
    leads to one push in `cooldown_seconds`, and to none for who wants none on its `topic`. Of the type "tag", `tag` is
    the tag or family of tags that must come or go. `when` must hold of the user as the push is decided.
    """

    name: str
    event: EventType
    serving_config: str
    template: str
    of: Of = "any"
    count: int = 1
    within_seconds: float = 1800.0
    same: bool = False
    cooldown_seconds: float = 0.0
    max_age_seconds: float = 3600.0
    k: int = 3
    ttl_seconds: float = 86_400.0
    collapse_key: str = ""
    topic: str = ""
    tag: str = ""
    move: Move = "entered"
    when: Expression | None = None

    def calls(self, move: TagMove) -> bool:
        """Whether a tag that came or went calls for a push."""
        return self.tag in (move.tag, base_of(move.tag)) and move.entered == (self.move == "entered")

    def matches(self, event: Event, profile: Profile, now_ms: int, fired_ms: int = 0) -> bool:
        """Whether an event, which `profile` has taken in already, calls for a push at `now_ms` (Unix milliseconds).

        `fired_ms` is when it last led to one, 0 for never: of a count, only events after that count again.
        """
        if event.type != self.event or now_ms - event.time > self.max_age_seconds * 1000:
            return False
        if not self._fits(bool(event.items), event.category):
            return False
        if self.count <= 1:
            return True
        near = [e for e in profile.recent if e.type == self.event and e.time > fired_ms]
        near = [e for e in near if self._fits(bool(e.items), e.category)]
        if self.same:
            key = hash_id(event.event_id.encode())
            this = next((e for e in near if e.key == key), None)
            near = [e for e in near if this is not None and _alike(e, this)]
        return event.time > fired_ms and self._together(sorted(e.time for e in near), event.time)

    def _together(self, times: Sequence[int], time: int) -> bool:
        """Whether `count` of these times, ascending, among them `time`, lie within the time of the rule.

        An event may come after a later one: it calls when it makes the count full, wherever it lies.
        """
        ends = zip(times, times[self.count - 1 :], strict=False)
        return any(first <= time <= last and last - first < self.within_seconds * 1000 for first, last in ends)

    def _fits(self, has_items: bool, category: str) -> bool:
        return self.of == "any" or (self.of == "item" and has_items) or (self.of == "category" and bool(category))


def _alike(one: RecentEvent, other: RecentEvent) -> bool:
    if one.category or other.category:
        return one.category == other.category
    return bool(set(one.items) & set(other.items))
