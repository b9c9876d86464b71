"""Between the client's values and the wire: explanations."""

from collections.abc import Sequence

from tidings import model, model_explain, wire
from tidings.v1 import recommendation_service_pb2 as pb


def question_request(question: model.RecommendQuery | str, item_ids: Sequence[str]) -> pb.ExplainRequest:
    """Return the request to explain the answer to a question; raises InvalidArgument as `wire.recommend_request`."""
    query = question if isinstance(question, model.RecommendQuery) else model.RecommendQuery(question)
    request = pb.ExplainRequest(question=wire.recommend_request(query, "question."))
    wire.fill_ids(request, "item_ids", item_ids)
    return request


def decision_request(decision_id: str, item_ids: Sequence[str]) -> pb.ExplainRequest:
    """Return the request to explain a decision."""
    request = pb.ExplainRequest()
    wire.fill(request, "decision_id", decision_id)
    wire.fill_ids(request, "item_ids", item_ids)
    return request


def explanation(message: pb.ExplainResponse) -> model_explain.Explanation:
    """Return an explanation."""
    decision = message.decision
    return model_explain.Explanation(
        items=tuple(_item(item) for item in message.items),
        release_id=message.release_id,
        serving_config=message.serving_config,
        answer_time=wire.time_of(message, "answer_time"),
        k=message.k,
        last_score=message.last_score if message.HasField("last_score") else None,
        ranked=message.ranked,
        may_be_found=message.may_be_found if message.HasField("may_be_found") else None,
        degraded=wire.degradations(message.degraded),
        decision=None
        if not message.HasField("decision")
        else model_explain.ExplainedDecision(
            decision_id=decision.decision_id,
            user_id=decision.user_id,
            cause=decision.cause,
            state=decision.state,
            reason=decision.reason,
            push_id=decision.push_id,
        ),
    )


def _item(message: pb.ItemExplanation) -> model_explain.ItemExplanation:
    return model_explain.ItemExplanation(
        item_id=message.item_id,
        verdict=_verdict(message.verdict),
        detail=message.detail,
        bars=tuple(model_explain.Bar(_verdict(bar.verdict), bar.detail) for bar in message.bars),
        place=message.place,
        score=message.score if message.HasField("score") else None,
        sources=tuple(
            model_explain.SourceVerdict(
                source=one.source,
                status=_STATUSES.get(one.status, model_explain.SourceStatus.UNSPECIFIED),
                rank=one.rank,
                score=one.score if one.HasField("score") else None,
            )
            for one in message.sources
        ),
        moves=tuple(model_explain.Move(move.rule, move.before, move.after) for move in message.moves),
        features=tuple(model_explain.Feature(one.block, one.name, one.value) for one in message.features),
        similarity=message.similarity if message.HasField("similarity") else None,
        exact_rank=message.exact_rank if message.HasField("exact_rank") else None,
        reasons=wire.reasons(message.reasons),
        recorded=message.recorded,
    )


def _verdict(number: int) -> model_explain.Verdict:
    return _VERDICTS.get(number, model_explain.Verdict.UNSPECIFIED)


_VERDICTS = wire.by_number(pb.Verdict, model_explain.Verdict)
_STATUSES = wire.by_number(pb.SourceStatus, model_explain.SourceStatus)
