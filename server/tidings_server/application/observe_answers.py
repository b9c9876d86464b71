"""Answer, and let a share of the answers be recorded, and another be checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidings_core.model import Answer, Query
from tidings_server.application.check_recall import Answered
from tidings_server.application.recommend import Answers, Left, Recommend, nobody_left
from tidings_server.application.record_answers import Given


@dataclass(frozen=True, slots=True)
class Recording:
    """A share, 0 to 1, of the answers, and who records them.

    `offer` takes one that was given, False when there is no room for it; it never waits. `new_id` makes the name of a
    decision.
    """

    share: float
    offer: Callable[[Given], bool]
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Checking:
    """A share, 0 to 1, of the answered queries, and who checks their recall; `offer` never waits."""

    share: float
    offer: Callable[[Answered], None]


class ObserveAnswers:
    """Recommend as its callers see it, observed."""

    def __init__(
        self,
        recommend: Recommend,
        recording: Recording,
        checking: Checking,
        draw: Callable[[], float],
        new_seed: Callable[[], int] = lambda: 0,
    ) -> None:
        """`draw` gives a number from 0 to below 1, another each time; `new_seed` what an exploration goes by."""
        self._new_seed = new_seed
        self._recommend = recommend
        self._recording = recording
        self._checking = checking
        self._draw = draw

    def __call__(self, queries: Sequence[Query], deadlines: Sequence[float], left: Left = nobody_left) -> Answers:
        """Answer each query before its deadline, as Recommend does; those that are recorded get the decision's name."""
        recording, checking = self._recording, self._checking
        queries = [
            query if query.serving.exploration is None else replace(query, seed=self._new_seed()) for query in queries
        ]
        names = [recording.new_id() if self._draw() < recording.share else "" for _ in queries]
        checked = [place for place in range(len(queries)) if self._draw() < checking.share]
        made = self._recommend(queries, deadlines, left, keep=list(map(bool, names)) if any(names) else False)
        if made.release is None:
            return made
        for place in checked:
            if isinstance(made.answers[place], Answer):
                checking.offer(Answered(made.queries[place], made.release, made.now))
        if not any(names):
            return made
        return replace(
            made,
            decision_ids=[self._record(name, place, made, queries[place].user_id) for place, name in enumerate(names)],
        )

    def _record(self, name: str, place: int, made: Answers, asked: str) -> str:
        """The name of an answer's record, "" when it is not recorded. `asked` is the id that was asked for."""
        answer = made.answers[place]
        if not name or made.release is None or not isinstance(answer, Answer):
            return ""
        query, user_id = made.queries[place], made.queries[place].user_id
        if query.person is not None and not user_id:
            # The release does not know somebody who came back; what is recorded of the person is theirs all the same.
            user_id = query.person.user_id or asked
        given = Given(name, user_id, query, answer, made.release, made.now)
        return name if self._recording.offer(given) else ""
