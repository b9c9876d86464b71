"""RecommendationService.Explain: bytes to a question or a decision, and what became of items to bytes."""

from collections.abc import Callable, Mapping, Sequence

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.explain import Said, Verdict
from tidings_core.model import Query
from tidings_server.application.explain import Explain, ItemTold, Outcome, Told
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.encoding import CAUSES, REASONS

MAX_ITEMS = 100
MAX_FAULTS = 8
"""So many faults of one request are named; the details of an error must fit into a header."""

VERDICTS: Mapping[Verdict | Outcome, "pb.Verdict"] = {
    "recommended": pb.VERDICT_RECOMMENDED,
    "unknown_item": pb.VERDICT_UNKNOWN_ITEM,
    "deleted": pb.VERDICT_DELETED,
    "unavailable": pb.VERDICT_UNAVAILABLE,
    "out_of_stock": pb.VERDICT_OUT_OF_STOCK,
    "not_published": pb.VERDICT_NOT_PUBLISHED,
    "expired": pb.VERDICT_EXPIRED,
    "filtered": pb.VERDICT_FILTERED,
    "context": pb.VERDICT_IN_CONTEXT,
    "example": pb.VERDICT_EXAMPLE,
    "request": pb.VERDICT_EXCLUDED_BY_REQUEST,
    "blocked": pb.VERDICT_BLOCKED,
    "disliked": pb.VERDICT_DISLIKED,
    "bought": pb.VERDICT_BOUGHT,
    "returned": pb.VERDICT_RETURNED,
    "seen": pb.VERDICT_SEEN,
    "not_retrieved": pb.VERDICT_NOT_RETRIEVED,
    "outranked": pb.VERDICT_OUTRANKED,
    "held_back": pb.VERDICT_HELD_BACK,
    "not_sent": pb.VERDICT_NOT_SENT,
    "passed_over": pb.VERDICT_PASSED_OVER,
}
STATUSES: Mapping[Said, "pb.SourceStatus"] = {
    "proposed": pb.SOURCE_STATUS_PROPOSED,
    "passed": pb.SOURCE_STATUS_PASSED,
    "silent": pb.SOURCE_STATUS_SILENT,
    "left_out": pb.SOURCE_STATUS_LEFT_OUT,
    "not_offered": pb.SOURCE_STATUS_NOT_OFFERED,
}
_REASONS: Mapping[str, str] = {code: pb.ReasonCode.Name(number) for code, number in REASONS.items()}

Question = Callable[["pb.RecommendRequest", str], Query]
"""The query in a request, whose fields are named with a prefix. Raises InvalidInput or Conflict."""

log = structlog.get_logger(__name__)


class ExplainHandlers:
    """The handler of Explain."""

    def __init__(self, explain: Explain, question: Question) -> None:
        """Take the verb, and what reads a question."""
        self._explain = explain
        self._question = question

    def explain(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer Explain calls, one after the other."""
        return [self._answered(call.body) for call in calls]

    def _answered(self, body: bytes) -> bytes | TidingsError:
        try:
            request = parse(pb.ExplainRequest(), body)
            item_ids = _item_ids(request)
            match request.WhichOneof("answer"):
                case "question":
                    told = self._explain.answer(self._question(request.question, "question."), item_ids)
                case "decision_id":
                    told = self._explain.decision(request.decision_id, item_ids)
                case _:
                    raise InvalidInput(("answer", "is missing; give a question or a decision_id"))
        except TidingsError as error:
            return error
        return _response(told).SerializeToString()


def _item_ids(request: "pb.ExplainRequest") -> Sequence[str]:
    """The items of a request. Raises InvalidInput."""
    faults = []
    if len(request.item_ids) > MAX_ITEMS:
        faults.append(("item_ids", f"has {len(request.item_ids)} entries, may have {MAX_ITEMS} at most"))
    elif request.item_ids:
        named = ((f"item_ids[{at}]", id_fault(item_id)) for at, item_id in enumerate(request.item_ids))
        faults += [(field, problem) for field, problem in named if problem][:MAX_FAULTS]
    if request.WhichOneof("answer") == "decision_id" and (problem := id_fault(request.decision_id)):
        faults.append(("decision_id", problem))
    if faults:
        raise InvalidInput(*faults)
    return list(request.item_ids)


def _response(told: Told) -> "pb.ExplainResponse":
    entry, stamp = told.entry, Timestamp()
    stamp.FromMilliseconds(told.time)
    response = pb.ExplainResponse(
        items=[_item(one) for one in told.items],
        release_id=told.release_id,
        serving_config=told.serving_config,
        answer_time=stamp,
        k=told.k,
        last_score=told.last_score,
        ranked=told.ranked,
        may_be_found=None if told.may_be_found < 0 else told.may_be_found,
        degraded=[pb.Degradation(cause=CAUSES[d.cause], stage=d.stage, detail=d.detail) for d in told.degraded],
    )
    if entry is not None:
        response.decision.CopyFrom(
            pb.ExplainedDecision(
                decision_id=entry.decision_id,
                user_id=entry.user_id,
                cause=entry.cause,
                state=entry.state,
                reason=entry.reason,
                push_id=entry.push_id,
            )
        )
    return response


def _item(told: ItemTold) -> "pb.ItemExplanation":
    found = told.found
    return pb.ItemExplanation(
        item_id=found.item_id,
        verdict=VERDICTS[told.verdict],
        detail=told.detail,
        bars=[pb.Bar(verdict=VERDICTS[bar], detail=detail) for bar, detail in found.bars],
        place=found.place,
        score=found.score if found.place else None,
        sources=[
            pb.SourceVerdict(
                source=one.source,
                status=STATUSES[one.said],
                rank=one.rank,
                score=one.score if one.said == "proposed" else None,
            )
            for one in found.sources
        ],
        moves=[pb.Move(rule=move.rule, before=move.before, after=move.after) for move in found.moves],
        features=[pb.Feature(block=one.block, name=one.name, value=one.value) for one in found.features],
        similarity=found.similarity,
        exact_rank=found.exact_rank or None,
        reasons=[pb.Reason(code=_REASONS[code], item_id=item, text=text) for code, item, text in told.reasons],
        recorded=told.recorded,
    )
