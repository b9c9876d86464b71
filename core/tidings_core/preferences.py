"""Preferences: what a person wants to be told, where and when, and what may be done with what is known of them.

Each word stands until a newer one by (time, key), so that the order of arrival cannot matter. A word may be None: back
to what holds for everybody.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from types import MappingProxyType
from typing import Any, Literal, get_args

from tidings_core.faults import Fault, text_fault
from tidings_core.quiet_hours import QuietHours, Span, quiet_faults

Channel = Literal["stream", "email", "sms", "web_push", "mobile_push", "webhook"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Purpose = Literal["profiling", "marketing", "training"]
"""profiling: answers, audiences and counts go by what is known of the person. marketing: pushes that nobody asked for.
training: what the person did is learned from, and leaves the server for it.
"""
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
MAX_TOPICS = 500
MAX_TOPIC_BYTES = 64
MAX_CAP = 1000
QUIET, CAP = "quiet_hours", "max_per_day"

Value = bool | int | QuietHours | None


@dataclass(frozen=True, slots=True)
class Word:
    """What was said, when (Unix milliseconds), and a hash of the id under which it was."""

    time: int
    key: int
    value: Value


@dataclass(frozen=True, slots=True)
class Preferences:
    """The newest words by name: "channel/NAME", "topic/NAME", "consent/PURPOSE", "quiet_hours", "max_per_day"."""

    words: Mapping[str, Word] = field(default_factory=lambda: MappingProxyType({}))

    def channel(self, name: Channel) -> bool:
        """Whether pushes may come over a channel. They may unless the person said otherwise."""
        return self._said(f"channel/{name}") is not False

    def topic(self, name: str) -> bool:
        """Whether pushes on a topic may come. They may unless the person said otherwise."""
        return self._said(f"topic/{name}") is not False

    def consent(self, purpose: Purpose) -> bool | None:
        """What the person said about a purpose; None: nothing."""
        said = self._said(f"consent/{purpose}")
        return said if isinstance(said, bool) else None

    @property
    def quiet_hours(self) -> QuietHours | None:
        """When not to disturb."""
        said = self._said(QUIET)
        return said if isinstance(said, QuietHours) else None

    @property
    def max_per_day(self) -> int | None:
        """Pushes in 24 hours at most, in place of what holds for everybody."""
        said = self._said(CAP)
        return None if said is None or not isinstance(said, int) else int(said)

    def _said(self, name: str) -> Value:
        word = self.words.get(name)
        return None if word is None else word.value


EMPTY = Preferences()


def join(*all_: Preferences) -> Preferences:
    """Of each name the newest word; of topics the MAX_TOPICS newest."""
    all_ = tuple(one for one in all_ if one.words)
    if len(all_) < 2:
        return all_[0] if all_ else EMPTY
    words: dict[str, Word] = {}
    for one in all_:
        for name, word in one.words.items():
            kept = words.get(name)
            if kept is None or _age(kept) < _age(word):
                words[name] = word
    topics = [name for name in words if name.startswith("topic/")]
    if len(topics) > MAX_TOPICS:
        newest = set(nlargest(MAX_TOPICS, topics, key=lambda name: (*_age(words[name])[:2], name)))
        words = {name: word for name, word in words.items() if name in newest or not name.startswith("topic/")}
    return Preferences(MappingProxyType(words))


def fold(before: Preferences, changes: Iterable[tuple[int, int, Mapping[str, Value]]]) -> Preferences:
    """The preferences after changes, each with its time, its key, and what it says by name."""
    said = [
        Preferences({name: Word(time, key, value) for name, value in words.items()}) for time, key, words in changes
    ]
    return join(before, *said) if said else before


def _age(word: Word) -> tuple[int, int, str]:
    # The last only for two words of one time and key, which no log has.
    return word.time, word.key, repr(word.value)


def preference_faults(words: Mapping[str, Value]) -> list[Fault]:
    """All that is wrong with what a change says, by name; [] for nothing."""
    found: list[Fault] = []
    topics = [name for name in words if name.startswith("topic/")]
    if len(topics) > MAX_TOPICS:
        found.append(("topics", f"has {len(topics)} entries, may have {MAX_TOPICS} at most"))
        topics = []
    for name in topics:
        topic = name.removeprefix("topic/")
        if problem := text_fault(topic, MAX_TOPIC_BYTES, 1):
            found.append((f"topics[{topic[:MAX_TOPIC_BYTES]!r}]", problem))
    cap = words.get(CAP)
    if cap is not None and not 0 <= int(cap if isinstance(cap, int) else -1) <= MAX_CAP:
        found.append((CAP, f"is {cap}, must be 0 to {MAX_CAP}"))
    quiet = words.get(QUIET)
    if isinstance(quiet, QuietHours):
        found += [(f"{QUIET}.{field}", problem) for field, problem in quiet_faults(quiet)]
    return found


def value_to_json(value: Value) -> Any:
    """A word's value as one that fits JSON."""
    if isinstance(value, QuietHours):
        return [value.time_zone, [[span.weekday, span.start, span.end] for span in value.spans]]
    return value


def value_from_json(given: Any) -> Value:
    """The value that `value_to_json` made one of. Raises ValueError or TypeError when it is none."""
    if isinstance(given, Sequence) and not isinstance(given, str):
        zone, spans = given
        return QuietHours(zone, tuple(Span(*span) for span in spans))
    if given is not None and not isinstance(given, int):
        raise TypeError(f"{given!r} is no value of a preference")
    return given


def to_json(preferences: Preferences) -> list[list[Any]]:
    """As values that fit JSON, the same for equal preferences."""
    words = sorted(preferences.words.items())
    return [[name, word.time, word.key, value_to_json(word.value)] for name, word in words]


def from_json(given: Iterable[Sequence[Any]]) -> Preferences:
    """The preferences that `to_json` made values of. Raises ValueError or TypeError when they are none."""
    words = {name: Word(time, key, value_from_json(value)) for name, time, key, value in given}
    return Preferences(MappingProxyType(words)) if words else EMPTY
