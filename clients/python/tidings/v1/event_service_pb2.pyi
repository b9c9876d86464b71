from tidings.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_STATUS_UNSPECIFIED: _ClassVar[EventStatus]
    EVENT_STATUS_ACCEPTED: _ClassVar[EventStatus]
    EVENT_STATUS_DUPLICATE: _ClassVar[EventStatus]
    EVENT_STATUS_REJECTED: _ClassVar[EventStatus]
    EVENT_STATUS_ERASED: _ClassVar[EventStatus]
EVENT_STATUS_UNSPECIFIED: EventStatus
EVENT_STATUS_ACCEPTED: EventStatus
EVENT_STATUS_DUPLICATE: EventStatus
EVENT_STATUS_REJECTED: EventStatus
EVENT_STATUS_ERASED: EventStatus

class RecordEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...

class RecordEventsResponse(_message.Message):
    __slots__ = ("verdicts", "consistency_token")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[EventVerdict]
    consistency_token: str
    def __init__(self, verdicts: _Optional[_Iterable[_Union[EventVerdict, _Mapping]]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class EventVerdict(_message.Message):
    __slots__ = ("status", "faults")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    status: EventStatus
    faults: _containers.RepeatedCompositeFieldContainer[EventFault]
    def __init__(self, status: _Optional[_Union[EventStatus, str]] = ..., faults: _Optional[_Iterable[_Union[EventFault, _Mapping]]] = ...) -> None: ...

class EventFault(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class ImportEventsRequest(_message.Message):
    __slots__ = ("import_id", "first_row", "events")
    IMPORT_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    import_id: str
    first_row: int
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, import_id: _Optional[str] = ..., first_row: _Optional[int] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...

class ImportEventsResponse(_message.Message):
    __slots__ = ("next_row", "accepted", "duplicates", "rejected", "faults", "consistency_token")
    NEXT_ROW_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    next_row: int
    accepted: int
    duplicates: int
    rejected: int
    faults: _containers.RepeatedCompositeFieldContainer[ImportFault]
    consistency_token: str
    def __init__(self, next_row: _Optional[int] = ..., accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., rejected: _Optional[int] = ..., faults: _Optional[_Iterable[_Union[ImportFault, _Mapping]]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class ImportFault(_message.Message):
    __slots__ = ("row", "faults")
    ROW_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    row: int
    faults: _containers.RepeatedCompositeFieldContainer[EventFault]
    def __init__(self, row: _Optional[int] = ..., faults: _Optional[_Iterable[_Union[EventFault, _Mapping]]] = ...) -> None: ...
