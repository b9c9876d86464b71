"""Answer queries: which release, in what time, and what to say when there is none."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from tidings_core.errors import DeadlinePassed, InvalidInput, StorageFailed
from tidings_core.model import Answer, Degradation, Person, Query
from tidings_core.recommend import recommend, unanswered
from tidings_core.release import Release
from tidings_core.standing import ERASED
from tidings_core.subjects import faults
from tidings_server.application.serving import Serving

HURRIED = 0.010
"""Seconds. Queries with less time than this are answered apart, so that they shorten nobody else's answer."""
WITHHELD: Mapping[str, Degradation] = MappingProxyType(
    {
        "no_consent": Degradation(
            "no_consent", "profile", "the user has not consented to profiling: nothing that is known of them was used"
        ),
        "erased": Degradation("erased", "profile", "the user was erased: nothing is known, and nothing was used"),
    }
)
NO_RELEASE = unanswered("no_release", "release", "no release is promoted: promote one with PromoteRelease")


Made = Answer | DeadlinePassed | InvalidInput
"""What became of one query: its answer, or why there is none."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers in the order of the queries, made at `now` (Unix seconds) from `release` (None: there is none).

    `queries` are those that were answered: with the people who asked, as far as anything is recorded of them.
    `decision_ids` are the names of the answers' records, "" for one that is not recorded; none when none is.
    """

    release: Release | None
    now: float
    answers: list[Made]
    queries: Sequence[Query] = ()
    decision_ids: Sequence[str] = ()


Left = Callable[[int], bool]
"""Whether nobody waits any more for the answer to the query at a place."""


def nobody_left(_place: int) -> bool:
    """Whoever asks waits for the answer."""
    return False


FindTags = Callable[[str, Collection[str]], Collection[str]]
"""Of these tags and families those that a user has, by id. Raises StorageFailed."""
FindPerson = Callable[[str, Release], Person | None]
"""What a release makes of a user's profile, None without one. Raises StorageFailed."""


def nobody(_user_id: str, _release: Release) -> None:
    """Of nobody anything is recorded."""


class Recommend:
    """Answers any number of queries from one release, and from what is recorded of their users."""

    def __init__(
        self,
        serving: Serving,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        together: int = 16,
        find_person: FindPerson = nobody,
        find_tags: FindTags = lambda _user_id, _names: (),
    ) -> None:
        """`now` gives Unix seconds, `monotonic` the seconds that deadlines are in.

        `together` queries are computed at once: more fall out of the processor's cache and take longer each.
        """
        self._find_person = find_person
        self._find_tags = find_tags
        self._serving = serving
        self._now = now
        self._monotonic = monotonic
        self._together = together

    def __call__(
        self,
        queries: Sequence[Query],
        deadlines: Sequence[float],
        left: Left = nobody_left,
        *,
        keep: bool | Sequence[bool] = False,
    ) -> Answers:
        """Answer each query before its deadline (monotonic seconds); one that has passed is DeadlinePassed.

        So is one whose caller has `left`: no work is done for it from then on. A query that does not fit the release,
        such as one with a vector of other dimensions, is InvalidInput. With `keep` an answer carries all that was
        considered.
        """
        release = self._serving.release  # Read once: all of these answers come from the same one.
        now = self._now()
        answers: list[Made] = [NO_RELEASE] * len(queries)
        queries = list(queries)
        start = self._monotonic()
        hurried = [place for place, deadline in enumerate(deadlines) if deadline - start < HURRIED]
        others = [place for place, deadline in enumerate(deadlines) if deadline - start >= HURRIED]
        for places in (hurried, others):
            # Like with like: the nearest deadline of those computed together decides what all of them do without.
            places.sort(key=lambda place: deadlines[place])
            for first in range(0, len(places), self._together):
                together = places[first : first + self._together]
                self._answer(together, queries, deadlines, left, release, now, answers, keep)
        return Answers(release, now, answers, queries)

    def _answer(
        self,
        places: Sequence[int],
        queries: list[Query],
        deadlines: Sequence[float],
        left: Left,
        release: Release | None,
        now: float,
        answers: list[Made],
        keep: bool | Sequence[bool],
    ) -> None:
        """Compute the answers at some places, together; each of their queries gets the person who asks."""
        start = self._monotonic()
        live = []
        for place in places:
            if deadlines[place] <= start:
                answers[place] = DeadlinePassed("the deadline passed before an answer was ready")
            elif left(place):
                answers[place] = DeadlinePassed("the caller left before an answer was ready")
            else:
                live.append(place)
        if release is None:
            return
        for place in live:
            if found := faults(queries[place], release.snapshot):
                answers[place] = InvalidInput(*found)
        live = [place for place in live if not isinstance(answers[place], InvalidInput)]
        if not live:
            return
        nearest = min(deadlines[place] for place in live)

        def time_left() -> float:
            return -math.inf if all(map(left, live)) else nearest - self._monotonic()

        met = [self.meet(queries[place], release) for place in live]
        batch = [query for query, _ in met]
        kept = keep if isinstance(keep, bool) else [keep[place] for place in live]
        made = recommend(batch, release.snapshot, now, time_left, kept)
        for place, answer, (query, missing) in zip(live, made, met, strict=True):
            queries[place] = query
            answers[place] = replace(answer, degraded=told(missing, answer.degraded)) if missing else answer

    def meet(self, query: Query, release: Release) -> tuple[Query, Degradation | None]:
        """The query with the person who asks, and what could not be found out about that person."""
        try:
            person = self._find_person(query.user_id, release)
            named = {tag for control in release.snapshot.controls for tag in control.tags}
            tags = self._find_tags(query.user_id, named) if named and person is not None else ()
        except StorageFailed as error:
            return query, Degradation("failed", "profile", f"answered without what is recorded of the user: {error}")
        if person is None:
            return query, None
        if not person.standing.may("answer", self._now() * 1000):
            # Without a name the release does not know who asks either.
            missing = WITHHELD["erased" if person.standing is ERASED else "no_consent"]
            return replace(query, user_id="", person=None), missing
        return replace(
            query, user_id="" if person.unlisted else person.user_id or query.user_id, person=person, tags=tags
        ), None


def told(missing: Degradation | None, others: Sequence[Degradation]) -> tuple[Degradation, ...]:
    """All that an answer had to do without. Where nothing may be used it goes without saying that nothing is known."""
    if missing is None:
        return tuple(others)
    withheld = missing.cause in WITHHELD
    return (missing, *(one for one in others if not (withheld and one.cause == "unknown_user")))
