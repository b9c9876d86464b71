"""Update a profile: set and remove attributes and tags, all of it or nothing."""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from functools import partial

from tidings_core.changes import MAX_TAGS, Change, Update, base_of, change_faults
from tidings_core.declared import Declarations, values_faults
from tidings_core.errors import InvalidInput
from tidings_core.faults import Fault, told
from tidings_server.application.documents import UserDocument
from tidings_server.application.record_change import Changed, RecordChange


class UpdateProfile:
    """Updates profiles."""

    def __init__(
        self, record: RecordChange, declared: Declarations, rules: Collection[str], now: Callable[[], float]
    ) -> None:
        """Attributes must be among `declared`, tags none that one of `rules` gives. `now` gives Unix seconds."""
        self._record = record
        self._declared = declared
        self._rules = frozenset(rules)
        self._now = now

    def __call__(self, change: Change, timed: bool, faults: Sequence[Fault] = ()) -> "Future[Changed]":
        """The Future of what became of an update; done when it is on disk.

        `timed`: its sender says of when it is; else it is of now. `faults` are those found before. Raises InvalidInput
        with all faults, Overloaded or Stopping at once; the Future raises InvalidInput when the user would have too
        many tags, StorageFull or StorageFailed.
        """
        assert isinstance(change.what, Update)
        now = self._now()
        found = [*faults, *change_faults(change, int(now * 1000))]
        found += values_faults(change.what.attributes, self._declared, now)
        found += self._given_by_rules(change.what)
        if found:
            raise InvalidInput(*told(found))
        return self._record(change, timed, partial(_too_many, change.what, int(now * 1000)))

    def _given_by_rules(self, update: Update) -> Iterator[Fault]:
        for name, setting in update.tags.items():
            if setting is not None and base_of(name) in self._rules:
                yield f"tags[{name!r:.80}]", f"is what the rule [tag.{base_of(name)}] gives: set another tag"


def _too_many(update: Update, now_ms: int, document: UserDocument) -> Sequence[Fault]:
    """What is wrong with the tags that a user would have."""
    after = document.profile.stated.tags_at(now_ms).keys() | {name for name, tag in update.tags.items() if tag}
    count = len(after - {name for name, tag in update.tags.items() if tag is None})
    if count <= MAX_TAGS:
        return ()
    return [("tags", f"would be {count} of this user, may be {MAX_TAGS} at most: remove some in the same call")]
