"""Answer, and let a share of the answers be recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidings_core.model import Answer, Query
from tidings_server.application.recommend import Answers, Recommend
from tidings_server.application.record_answers import Given

Offer = Callable[[Given], bool]
"""Takes an answer that was given; False when there is no room for it. Never waits."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A share, 0 to 1, of the answers, and who records them. `new_id` makes the name of a decision."""

    share: float
    offer: Offer
    new_id: Callable[[], str]


class ObserveAnswers:
    """Recommend as its callers see it, observed."""

    def __init__(self, recommend: Recommend, recording: Recording, draw: Callable[[], float]) -> None:
        """`draw` gives a number from 0 to below 1, another each time."""
        self._recommend = recommend
        self._recording = recording
        self._draw = draw

    def __call__(self, queries: Sequence[Query], deadlines: Sequence[float]) -> Answers:
        """Answer each query before its deadline, as Recommend does; those that are recorded get the decision's name."""
        recording = self._recording
        names = [recording.new_id() if self._draw() < recording.share else "" for _ in queries]
        if not any(names):
            return self._recommend(queries, deadlines)
        made = self._recommend(queries, deadlines, keep=True)
        return replace(made, decision_ids=[self._record(name, place, made) for place, name in enumerate(names)])

    def _record(self, name: str, place: int, made: Answers) -> str:
        """The name of an answer's record, "" when it is not recorded."""
        answer = made.answers[place]
        if not name or made.release is None or not isinstance(answer, Answer):
            return ""
        given = Given(name, made.queries[place], answer, made.release, made.now)
        return name if self._recording.offer(given) else ""
