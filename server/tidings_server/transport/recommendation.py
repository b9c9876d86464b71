"""RecommendationService: bytes to queries, queries to answers, answers to bytes."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import structlog

from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core import model
from tidings_core.errors import Conflict, InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.faults import text_fault
from tidings_core.model import Answer, Degradation, Query, ServingConfig
from tidings_core.ranked import Items
from tidings_server.application.decision_token import DecisionTokens
from tidings_server.application.recommend import Answers, Left
from tidings_server.metrics import Metrics
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.encoding import DECISION_TOKEN, add_degraded, encode_answers, encode_batch, varint
from tidings_server.transport.filters import decode_filter

LARGEST_NUMBER = 1e6
"""Of a vector: the products of larger ones are no numbers any more."""
MAX_VIOLATIONS = 8
"""So many faults of one request are named; the details of an error must fit into a header."""

NOTHING_FOUND = Items()

Ask = Callable[[Sequence[Query], Sequence[float], Left], Answers]
"""Answers queries, each before its deadline (monotonic seconds), and while its caller waits."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it asks, and the id its caller gave it."""

    query: Query
    request_id: str


class RecommendationHandlers:
    """The handlers of RecommendationService."""

    def __init__(
        self,
        ask: Ask,
        serving_configs: Mapping[str, ServingConfig],
        metrics: Metrics,
        monotonic: Callable[[], float],
        check_token: Callable[[str], None],
        tokens: DecisionTokens | None = None,
    ) -> None:
        """Serve the named serving configs. `check_token` raises InvalidInput or Conflict for a consistency token.

        `tokens` signs the decision tokens of answers; None: they have none.
        """
        self._tokens = tokens
        self._check_token = check_token
        self._ask = ask
        self._serving_configs = serving_configs
        self._metrics = metrics
        self._monotonic = monotonic
        self._decoded = metrics.stage("decode")
        self._recommended = metrics.stage("recommend")
        self._encoded = metrics.stage("encode")
        self._failures = _Seldom(monotonic, 1.0)

    def recommend(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer a batch of Recommend calls. A bad one ends with its own error and hurts no other."""
        start = self._monotonic()
        asked = [self._decode(call.body) for call in calls]
        self._decoded(self._monotonic() - start)
        good = [place for place, found in enumerate(asked) if isinstance(found, Asked)]
        answers: list[bytes | TidingsError] = [found for found in asked if isinstance(found, TidingsError)]
        made = self._answer([found for found in asked if isinstance(found, Asked)], [calls[place] for place in good])
        if not answers:
            return made
        bad, fine = iter(answers), iter(made)
        return [next(fine) if isinstance(found, Asked) else next(bad) for found in asked]

    def batch_recommend(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer BatchRecommend calls, each with all of its requests or one error."""
        return [self._batch(call) for call in calls]

    def _batch(self, call: Call) -> bytes | TidingsError:
        start = self._monotonic()
        try:
            requests = parse(pb.BatchRecommendRequest(), call.body).requests
            if not 1 <= len(requests) <= model.MAX_BATCH:
                raise InvalidInput(("requests", f"has {len(requests)} entries, must have 1 to {model.MAX_BATCH}"))
            faults = _Faults()
            asked = [self._read(request, faults, f"requests[{at}].") for at, request in enumerate(requests)]
            faults.refuse()
        except (InvalidInput, Conflict) as error:
            return error
        self._decoded(self._monotonic() - start)
        answers = self._answer(asked, [call] * len(asked))
        unfit = _Faults()
        for at, answer in enumerate(answers):
            for field, problem in answer.violations if isinstance(answer, InvalidInput) else ():
                unfit.add(f"requests[{at}].{field}", problem)
        try:
            unfit.refuse()
        except InvalidInput as error:
            return error
        responses = [answer for answer in answers if isinstance(answer, bytes)]
        if len(responses) < len(answers):
            return next(answer for answer in answers if isinstance(answer, TidingsError))
        return encode_batch(responses)

    def question(self, request: "pb.RecommendRequest", prefix: str) -> Query:
        """The query in a request inside another. Raises InvalidInput, naming `prefix` + field, or Conflict."""
        faults = _Faults()
        asked = self._read(request, faults, prefix)
        faults.refuse()
        return asked.query

    def _decode(self, body: bytes) -> Asked | InvalidInput | Conflict:
        try:
            faults = _Faults()
            asked = self._read(parse(pb.RecommendRequest(), body), faults)
            faults.refuse()
            return asked
        except (InvalidInput, Conflict) as error:
            log.debug("refused", method="Recommend", problem=str(error))
            return error

    def _read(self, request: "pb.RecommendRequest", faults: "_Faults", prefix: str = "") -> Asked:
        """The query in a request. What is wrong with it goes to `faults`; then the query means nothing."""
        user_id, context, exclude = request.user_id, request.context_item_ids, request.exclude_item_ids
        faults.check_id(prefix + "user_id", user_id)
        k = request.k if request.HasField("k") else model.DEFAULT_K
        if not 1 <= k <= model.MAX_K:
            faults.add(prefix + "k", f"is {k}, must be 1 to {model.MAX_K}")
        if context:
            faults.check_ids(prefix + "context_item_ids", context, model.MAX_CONTEXT_ITEMS)
        if exclude:
            faults.check_ids(prefix + "exclude_item_ids", exclude, model.MAX_EXCLUDED_ITEMS)
        liked, disliked = request.examples.liked_item_ids, request.examples.disliked_item_ids
        for field, ids in (("liked_item_ids", liked), ("disliked_item_ids", disliked)):
            if ids:
                faults.check_ids(f"{prefix}examples.{field}", ids, model.MAX_EXAMPLES)
        vector = np.fromiter(request.vector, np.float32, len(request.vector)) if request.vector else None
        if vector is not None:
            for at in np.flatnonzero(~(np.abs(vector) <= LARGEST_NUMBER)).tolist():
                faults.add(f"{prefix}vector[{at}]", f"is {vector[at]}, must be from -1e6 to 1e6")
            if not vector.any():
                faults.add(f"{prefix}vector", "is zero everywhere and near to nothing; leave it out")
        for field, text, most in (
            ("request_id", request.request_id, model.MAX_ID_BYTES),
            ("query", request.query, model.MAX_QUERY_BYTES),
            ("category", request.category, model.MAX_CATEGORY_BYTES),
        ):
            if text and (problem := text_fault(text, most)):
                faults.add(prefix + field, problem)
        wanted = None
        if request.HasField("filter"):
            wanted, wrong = decode_filter(request.filter)
            for place, problem in wrong:
                faults.add(f"{prefix}filter.{place}" if place else f"{prefix}filter", problem)
        if request.consistency_token:
            try:
                self._check_token(request.consistency_token)
            except InvalidInput as error:
                for field, problem in error.violations:
                    faults.add(prefix + field, problem)
        name = request.serving_config or model.DEFAULT_SERVING_CONFIG
        serving = self._serving_configs.get(name)
        if serving is None:
            known = ", ".join(sorted(self._serving_configs))
            faults.add(prefix + "serving_config", f"is {name[:40]!r}, which is not known; known are {known[:300]}")
            serving = self._serving_configs[model.DEFAULT_SERVING_CONFIG]
        query = Query(
            user_id,
            serving,
            k,
            context,
            exclude,
            request.query,
            request.category,
            filter=wanted,
            liked_item_ids=liked,
            disliked_item_ids=disliked,
            vector=vector,
        )
        return Asked(query, request.request_id)

    def _answer(self, asked: Sequence[Asked], calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer requests together, or one by one when together they fail: one that fails must not hurt the others."""
        if not asked:
            return []
        try:
            return self._answer_together(asked, calls)
        except Exception:  # A fault of ours; what it was is in the log.
            log.exception("recommend failed", request_ids=[one.request_id for one in asked])
            if len(asked) == 1:
                return [TidingsError("the server failed; its log says why")]
            return [self._answer([one], [call])[0] for one, call in zip(asked, calls, strict=True)]

    def _answer_together(self, asked: Sequence[Asked], calls: Sequence[Call]) -> list[bytes | TidingsError]:
        start = self._monotonic()
        deadlines = [call.deadline for call in calls]
        made = self._ask([one.query for one in asked], deadlines, lambda place: calls[place].left())
        ready = self._monotonic()
        self._recommended(ready - start)
        encoded = self._encode(asked, made)
        self._encoded(self._monotonic() - ready)
        return encoded

    def _encode(self, asked: Sequence[Asked], made: Answers) -> list[bytes | TidingsError]:
        """The bytes of answers: what is the same in all of them is written once, the items of all of them together."""
        snapshot = None if made.release is None else made.release.snapshot
        items = [one.items if isinstance(one, Answer) else NOTHING_FOUND for one in made.answers]
        bodies = [b""] * len(items) if snapshot is None else encode_answers(items, snapshot)
        heads = {name: self._head(name, made) for name in {one.query.serving.name for one in asked}}
        begun = self._begun(heads, made)
        if log.is_enabled_for(logging.DEBUG):
            self._tell(asked, made)
        out: list[bytes | TidingsError] = []
        for one, answer, body, name in zip(asked, made.answers, bodies, made.decision_ids or repeat(""), strict=False):
            if not isinstance(answer, Answer):
                out.append(answer)
                continue
            rest = heads[one.query.serving.name]
            if answer.degraded or one.request_id or name:
                own = pb.RecommendResponse(request_id=one.request_id, decision_id=name)
                if answer.degraded:
                    self._note(answer.degraded, one)
                    add_degraded(own, answer.degraded)
                rest += own.SerializeToString()
            if snapshot is not None and self._tokens is not None:
                token = self._tokens.sign(begun[one.query.serving.name], name, answer.items, snapshot)
                rest += DECISION_TOKEN + varint(len(token)) + token
            out.append(body + rest)
        return out

    def _begun(self, serving_configs: Iterable[str], made: Answers) -> Mapping[str, bytes]:
        """What the decision tokens of each serving config have in common."""
        if made.release is None or self._tokens is None:
            return {}
        release_id = made.release.manifest.release_id
        return {name: self._tokens.begin(release_id, name, made.now) for name in serving_configs}

    def _head(self, serving_config: str, made: Answers) -> bytes:
        """What all answers of a serving config have in common."""
        head = pb.RecommendResponse(serving_config=serving_config)
        if made.release is not None:
            manifest = made.release.manifest
            head.release_id = manifest.release_id
            head.release_age_seconds = made.now - manifest.created_at
            head.index_age_seconds = made.now - manifest.index.built_at
        return head.SerializeToString()

    def _note(self, degraded: Sequence[Degradation], asked: Asked) -> None:
        """Count what an answer had to do without, and log what failed, not too often."""
        for one in degraded:
            self._metrics.degraded(one.cause, one.stage)
            if one.cause == "failed" and self._failures.due(one.stage):
                log.error(
                    "a stage failed and was left out",
                    stage=one.stage,
                    problem=one.detail,
                    request_id=asked.request_id,
                )

    def _tell(self, asked: Sequence[Asked], made: Answers) -> None:
        """Log the answers, for who looks for a fault."""
        for one, answer in zip(asked, made.answers, strict=True):
            if isinstance(answer, Answer):
                log.debug(
                    "recommend",
                    request_id=one.request_id,
                    k=one.query.k,
                    items=len(answer.items),
                    degraded=[f"{gone.cause}:{gone.stage}" for gone in answer.degraded],
                )


class _Faults:
    """What is wrong with one request, field by field."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self._more = 0

    def add(self, field: str, description: str) -> None:
        if len(self._found) < MAX_VIOLATIONS:
            self._found.append((field, description))
        else:
            self._more += 1

    def check_id(self, field: str, name: str) -> None:
        if problem := id_fault(name):
            self.add(field, problem)

    def check_ids(self, field: str, names: Sequence[str], limit: int) -> None:
        if len(names) > limit:
            self.add(field, f"has {len(names)} entries, may have {limit} at most")
            return
        for at, name in enumerate(names):
            # There may be 10,000: this says of nearly all of them that they are fine.
            if not (name.isprintable() and 1 <= len(name) <= model.MAX_ID_BYTES // 4):
                self.check_id(f"{field}[{at}]", name)

    def refuse(self) -> None:
        """Raise InvalidInput when anything was found."""
        if self._more:
            field, description = self._found[-1]
            self._found[-1] = (field, f"{description} (and {self._more} more faults)")
        if self._found:
            raise InvalidInput(*self._found)


class _Seldom:
    """Says at most once every `seconds` that a line about something is due, so that a broken part floods no log."""

    def __init__(self, monotonic: Callable[[], float], seconds: float) -> None:
        self._monotonic = monotonic
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def due(self, subject: str) -> bool:
        now = self._monotonic()
        if now - self._last.get(subject, -math.inf) < self._seconds:
            return False
        self._last[subject] = now
        return True
