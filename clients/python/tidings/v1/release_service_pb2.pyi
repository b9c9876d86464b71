from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReleaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELEASE_STATE_UNSPECIFIED: _ClassVar[ReleaseState]
    RELEASE_STATE_AVAILABLE: _ClassVar[ReleaseState]
    RELEASE_STATE_SERVING: _ClassVar[ReleaseState]
    RELEASE_STATE_BROKEN: _ClassVar[ReleaseState]
RELEASE_STATE_UNSPECIFIED: ReleaseState
RELEASE_STATE_AVAILABLE: ReleaseState
RELEASE_STATE_SERVING: ReleaseState
RELEASE_STATE_BROKEN: ReleaseState

class Release(_message.Message):
    __slots__ = ("release_id", "create_time", "state", "promote_time", "item_count", "user_count", "dim", "metric", "index_key", "recall", "recall_k", "sources", "ranked", "problem", "erased_user_count")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROMOTE_TIME_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    USER_COUNT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    RECALL_K_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    RANKED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ERASED_USER_COUNT_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    create_time: _timestamp_pb2.Timestamp
    state: ReleaseState
    promote_time: _timestamp_pb2.Timestamp
    item_count: int
    user_count: int
    dim: int
    metric: str
    index_key: str
    recall: float
    recall_k: int
    sources: _containers.RepeatedScalarFieldContainer[str]
    ranked: bool
    problem: str
    erased_user_count: int
    def __init__(self, release_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[ReleaseState, str]] = ..., promote_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., item_count: _Optional[int] = ..., user_count: _Optional[int] = ..., dim: _Optional[int] = ..., metric: _Optional[str] = ..., index_key: _Optional[str] = ..., recall: _Optional[float] = ..., recall_k: _Optional[int] = ..., sources: _Optional[_Iterable[str]] = ..., ranked: bool = ..., problem: _Optional[str] = ..., erased_user_count: _Optional[int] = ...) -> None: ...

class ListReleasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListReleasesResponse(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class PromoteReleaseRequest(_message.Message):
    __slots__ = ("release_id",)
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    def __init__(self, release_id: _Optional[str] = ...) -> None: ...

class PromoteReleaseResponse(_message.Message):
    __slots__ = ("release", "previous_release_id")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    release: Release
    previous_release_id: str
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., previous_release_id: _Optional[str] = ...) -> None: ...

class RollbackReleaseRequest(_message.Message):
    __slots__ = ("from_release_id",)
    FROM_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    from_release_id: str
    def __init__(self, from_release_id: _Optional[str] = ...) -> None: ...

class RollbackReleaseResponse(_message.Message):
    __slots__ = ("release", "previous_release_id")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    release: Release
    previous_release_id: str
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., previous_release_id: _Optional[str] = ...) -> None: ...
