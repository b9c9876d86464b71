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

class RecommendRequest(_message.Message):
    __slots__ = ("user_id", "serving_config", "k", "context_item_ids", "exclude_item_ids", "request_id", "query", "category", "examples", "vector", "consistency_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SERVING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
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
    examples: RecommendExamples
    vector: _containers.RepeatedScalarFieldContainer[float]
    consistency_token: str
    def __init__(self, user_id: _Optional[str] = ..., serving_config: _Optional[str] = ..., k: _Optional[int] = ..., context_item_ids: _Optional[_Iterable[str]] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ..., query: _Optional[str] = ..., category: _Optional[str] = ..., examples: _Optional[_Union[RecommendExamples, _Mapping]] = ..., vector: _Optional[_Iterable[float]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class RecommendExamples(_message.Message):
    __slots__ = ("liked_item_ids", "disliked_item_ids")
    LIKED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    DISLIKED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    liked_item_ids: _containers.RepeatedScalarFieldContainer[str]
    disliked_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, liked_item_ids: _Optional[_Iterable[str]] = ..., disliked_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("items", "degraded", "release_id", "release_age_seconds", "index_age_seconds", "serving_config", "request_id", "decision_id")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    INDEX_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SERVING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    release_id: str
    release_age_seconds: float
    index_age_seconds: float
    serving_config: str
    request_id: str
    decision_id: str
    def __init__(self, items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., release_id: _Optional[str] = ..., release_age_seconds: _Optional[float] = ..., index_age_seconds: _Optional[float] = ..., serving_config: _Optional[str] = ..., request_id: _Optional[str] = ..., decision_id: _Optional[str] = ...) -> None: ...

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
