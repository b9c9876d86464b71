from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import audience_pb2 as _audience_pb2
from tidings.v1 import filter_pb2 as _filter_pb2
from tidings.v1 import item_pb2 as _item_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReasonCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_CODE_UNSPECIFIED: _ClassVar[ReasonCode]
    REASON_CODE_MATCHES_TASTE: _ClassVar[ReasonCode]
    REASON_CODE_SIMILAR_TO_BOUGHT: _ClassVar[ReasonCode]
    REASON_CODE_SIMILAR_TO_CONTEXT: _ClassVar[ReasonCode]
    REASON_CODE_TRENDING: _ClassVar[ReasonCode]
    REASON_CODE_SIMILAR_TO_VIEWED: _ClassVar[ReasonCode]
    REASON_CODE_SEARCHED: _ClassVar[ReasonCode]
    REASON_CODE_IN_CATEGORY: _ClassVar[ReasonCode]
    REASON_CODE_RECENTLY_VIEWED: _ClassVar[ReasonCode]
    REASON_CODE_BOUGHT_TOGETHER: _ClassVar[ReasonCode]

class DegradationCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_CAUSE_UNSPECIFIED: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_NO_RELEASE: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_UNKNOWN_USER: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_DEADLINE: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_FAILED: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_UNKNOWN_CONTEXT: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_NO_CONSENT: _ClassVar[DegradationCause]
    DEGRADATION_CAUSE_ERASED: _ClassVar[DegradationCause]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_RECOMMENDED: _ClassVar[Verdict]
    VERDICT_UNKNOWN_ITEM: _ClassVar[Verdict]
    VERDICT_FILTERED: _ClassVar[Verdict]
    VERDICT_IN_CONTEXT: _ClassVar[Verdict]
    VERDICT_EXCLUDED_BY_REQUEST: _ClassVar[Verdict]
    VERDICT_BLOCKED: _ClassVar[Verdict]
    VERDICT_BOUGHT: _ClassVar[Verdict]
    VERDICT_RETURNED: _ClassVar[Verdict]
    VERDICT_SEEN: _ClassVar[Verdict]
    VERDICT_NOT_RETRIEVED: _ClassVar[Verdict]
    VERDICT_OUTRANKED: _ClassVar[Verdict]
    VERDICT_HELD_BACK: _ClassVar[Verdict]
    VERDICT_NOT_SENT: _ClassVar[Verdict]
    VERDICT_PASSED_OVER: _ClassVar[Verdict]
    VERDICT_DELETED: _ClassVar[Verdict]
    VERDICT_EXAMPLE: _ClassVar[Verdict]
    VERDICT_UNAVAILABLE: _ClassVar[Verdict]
    VERDICT_OUT_OF_STOCK: _ClassVar[Verdict]
    VERDICT_NOT_PUBLISHED: _ClassVar[Verdict]
    VERDICT_EXPIRED: _ClassVar[Verdict]
    VERDICT_DISLIKED: _ClassVar[Verdict]

class SourceStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_STATUS_UNSPECIFIED: _ClassVar[SourceStatus]
    SOURCE_STATUS_PROPOSED: _ClassVar[SourceStatus]
    SOURCE_STATUS_PASSED: _ClassVar[SourceStatus]
    SOURCE_STATUS_SILENT: _ClassVar[SourceStatus]
    SOURCE_STATUS_LEFT_OUT: _ClassVar[SourceStatus]
    SOURCE_STATUS_NOT_OFFERED: _ClassVar[SourceStatus]
REASON_CODE_UNSPECIFIED: ReasonCode
REASON_CODE_MATCHES_TASTE: ReasonCode
REASON_CODE_SIMILAR_TO_BOUGHT: ReasonCode
REASON_CODE_SIMILAR_TO_CONTEXT: ReasonCode
REASON_CODE_TRENDING: ReasonCode
REASON_CODE_SIMILAR_TO_VIEWED: ReasonCode
REASON_CODE_SEARCHED: ReasonCode
REASON_CODE_IN_CATEGORY: ReasonCode
REASON_CODE_RECENTLY_VIEWED: ReasonCode
REASON_CODE_BOUGHT_TOGETHER: ReasonCode
DEGRADATION_CAUSE_UNSPECIFIED: DegradationCause
DEGRADATION_CAUSE_NO_RELEASE: DegradationCause
DEGRADATION_CAUSE_UNKNOWN_USER: DegradationCause
DEGRADATION_CAUSE_DEADLINE: DegradationCause
DEGRADATION_CAUSE_FAILED: DegradationCause
DEGRADATION_CAUSE_UNKNOWN_CONTEXT: DegradationCause
DEGRADATION_CAUSE_NO_CONSENT: DegradationCause
DEGRADATION_CAUSE_ERASED: DegradationCause
VERDICT_UNSPECIFIED: Verdict
VERDICT_RECOMMENDED: Verdict
VERDICT_UNKNOWN_ITEM: Verdict
VERDICT_FILTERED: Verdict
VERDICT_IN_CONTEXT: Verdict
VERDICT_EXCLUDED_BY_REQUEST: Verdict
VERDICT_BLOCKED: Verdict
VERDICT_BOUGHT: Verdict
VERDICT_RETURNED: Verdict
VERDICT_SEEN: Verdict
VERDICT_NOT_RETRIEVED: Verdict
VERDICT_OUTRANKED: Verdict
VERDICT_HELD_BACK: Verdict
VERDICT_NOT_SENT: Verdict
VERDICT_PASSED_OVER: Verdict
VERDICT_DELETED: Verdict
VERDICT_EXAMPLE: Verdict
VERDICT_UNAVAILABLE: Verdict
VERDICT_OUT_OF_STOCK: Verdict
VERDICT_NOT_PUBLISHED: Verdict
VERDICT_EXPIRED: Verdict
VERDICT_DISLIKED: Verdict
SOURCE_STATUS_UNSPECIFIED: SourceStatus
SOURCE_STATUS_PROPOSED: SourceStatus
SOURCE_STATUS_PASSED: SourceStatus
SOURCE_STATUS_SILENT: SourceStatus
SOURCE_STATUS_LEFT_OUT: SourceStatus
SOURCE_STATUS_NOT_OFFERED: SourceStatus

class RecommendRequest(_message.Message):
    __slots__ = ("user_id", "serving_config", "k", "context_item_ids", "exclude_item_ids", "request_id", "query", "category", "filter", "examples", "vector", "consistency_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SERVING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    serving_config: str
    k: int
    context_item_ids: _containers.RepeatedScalarFieldContainer[str]
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    query: str
    category: str
    filter: _filter_pb2.Filter
    examples: RecommendExamples
    vector: _containers.RepeatedScalarFieldContainer[float]
    consistency_token: str
    def __init__(self, user_id: _Optional[str] = ..., serving_config: _Optional[str] = ..., k: _Optional[int] = ..., context_item_ids: _Optional[_Iterable[str]] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ..., query: _Optional[str] = ..., category: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., examples: _Optional[_Union[RecommendExamples, _Mapping]] = ..., vector: _Optional[_Iterable[float]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class RecommendExamples(_message.Message):
    __slots__ = ("liked_item_ids", "disliked_item_ids")
    LIKED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    DISLIKED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    liked_item_ids: _containers.RepeatedScalarFieldContainer[str]
    disliked_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, liked_item_ids: _Optional[_Iterable[str]] = ..., disliked_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("items", "degraded", "release_id", "release_age_seconds", "index_age_seconds", "serving_config", "request_id", "decision_id", "decision_token")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    INDEX_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SERVING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    release_id: str
    release_age_seconds: float
    index_age_seconds: float
    serving_config: str
    request_id: str
    decision_id: str
    decision_token: str
    def __init__(self, items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., release_id: _Optional[str] = ..., release_age_seconds: _Optional[float] = ..., index_age_seconds: _Optional[float] = ..., serving_config: _Optional[str] = ..., request_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., decision_token: _Optional[str] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item", "score", "sources", "reasons")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    item: _item_pb2.Item
    score: float
    sources: _containers.RepeatedCompositeFieldContainer[SourceScore]
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    def __init__(self, item: _Optional[_Union[_item_pb2.Item, _Mapping]] = ..., score: _Optional[float] = ..., sources: _Optional[_Iterable[_Union[SourceScore, _Mapping]]] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ...) -> None: ...

class SourceScore(_message.Message):
    __slots__ = ("source", "score")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    source: str
    score: float
    def __init__(self, source: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "item_id", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: ReasonCode
    item_id: str
    text: str
    def __init__(self, code: _Optional[_Union[ReasonCode, str]] = ..., item_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Degradation(_message.Message):
    __slots__ = ("cause", "stage", "detail")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    cause: DegradationCause
    stage: str
    detail: str
    def __init__(self, cause: _Optional[_Union[DegradationCause, str]] = ..., stage: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class BatchRecommendRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class BatchRecommendResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[RecommendResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[RecommendResponse, _Mapping]]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("question", "decision_id", "item_ids")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    question: RecommendRequest
    decision_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, question: _Optional[_Union[RecommendRequest, _Mapping]] = ..., decision_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("items", "release_id", "serving_config", "answer_time", "k", "last_score", "ranked", "may_be_found", "degraded", "decision")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SERVING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TIME_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    LAST_SCORE_FIELD_NUMBER: _ClassVar[int]
    RANKED_FIELD_NUMBER: _ClassVar[int]
    MAY_BE_FOUND_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemExplanation]
    release_id: str
    serving_config: str
    answer_time: _timestamp_pb2.Timestamp
    k: int
    last_score: float
    ranked: bool
    may_be_found: int
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    decision: ExplainedDecision
    def __init__(self, items: _Optional[_Iterable[_Union[ItemExplanation, _Mapping]]] = ..., release_id: _Optional[str] = ..., serving_config: _Optional[str] = ..., answer_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., k: _Optional[int] = ..., last_score: _Optional[float] = ..., ranked: bool = ..., may_be_found: _Optional[int] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., decision: _Optional[_Union[ExplainedDecision, _Mapping]] = ...) -> None: ...

class ExplainedDecision(_message.Message):
    __slots__ = ("decision_id", "user_id", "cause", "state", "reason", "push_id")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    user_id: str
    cause: str
    state: str
    reason: str
    push_id: str
    def __init__(self, decision_id: _Optional[str] = ..., user_id: _Optional[str] = ..., cause: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., push_id: _Optional[str] = ...) -> None: ...

class ItemExplanation(_message.Message):
    __slots__ = ("item_id", "verdict", "detail", "bars", "place", "score", "sources", "moves", "features", "similarity", "exact_rank", "reasons", "recorded")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    EXACT_RANK_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    verdict: Verdict
    detail: str
    bars: _containers.RepeatedCompositeFieldContainer[Bar]
    place: int
    score: float
    sources: _containers.RepeatedCompositeFieldContainer[SourceVerdict]
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    features: _containers.RepeatedCompositeFieldContainer[Feature]
    similarity: float
    exact_rank: int
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    recorded: bool
    def __init__(self, item_id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., detail: _Optional[str] = ..., bars: _Optional[_Iterable[_Union[Bar, _Mapping]]] = ..., place: _Optional[int] = ..., score: _Optional[float] = ..., sources: _Optional[_Iterable[_Union[SourceVerdict, _Mapping]]] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[Feature, _Mapping]]] = ..., similarity: _Optional[float] = ..., exact_rank: _Optional[int] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., recorded: bool = ...) -> None: ...

class Bar(_message.Message):
    __slots__ = ("verdict", "detail")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    detail: str
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class SourceVerdict(_message.Message):
    __slots__ = ("source", "status", "rank", "score")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    source: str
    status: SourceStatus
    rank: int
    score: float
    def __init__(self, source: _Optional[str] = ..., status: _Optional[_Union[SourceStatus, str]] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("rule", "before", "after")
    RULE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    rule: str
    before: int
    after: int
    def __init__(self, rule: _Optional[str] = ..., before: _Optional[int] = ..., after: _Optional[int] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("block", "name", "value")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    block: str
    name: str
    value: float
    def __init__(self, block: _Optional[str] = ..., name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
