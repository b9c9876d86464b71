from tidings.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FindAudienceRequest(_message.Message):
    __slots__ = ("item_ids", "filter", "min_score", "limit", "page_size", "include_refused", "page_token", "user_filter")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_REFUSED_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    USER_FILTER_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    filter: _filter_pb2.Filter
    min_score: float
    limit: int
    page_size: int
    include_refused: bool
    page_token: str
    user_filter: _filter_pb2.Filter
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., min_score: _Optional[float] = ..., limit: _Optional[int] = ..., page_size: _Optional[int] = ..., include_refused: bool = ..., page_token: _Optional[str] = ..., user_filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class FindAudienceResponse(_message.Message):
    __slots__ = ("members", "page_token", "release_id", "item_count", "passing_count", "withheld")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    PASSING_COUNT_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[AudienceMember]
    page_token: str
    release_id: str
    item_count: int
    passing_count: int
    withheld: bool
    def __init__(self, members: _Optional[_Iterable[_Union[AudienceMember, _Mapping]]] = ..., page_token: _Optional[str] = ..., release_id: _Optional[str] = ..., item_count: _Optional[int] = ..., passing_count: _Optional[int] = ..., withheld: bool = ...) -> None: ...

class AudienceMember(_message.Message):
    __slots__ = ("user_id", "score", "item_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    score: float
    item_id: str
    def __init__(self, user_id: _Optional[str] = ..., score: _Optional[float] = ..., item_id: _Optional[str] = ...) -> None: ...
