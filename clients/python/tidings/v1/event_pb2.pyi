from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import change_pb2 as _change_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_TYPE_UNSPECIFIED: _ClassVar[EventType]
    EVENT_TYPE_VIEW: _ClassVar[EventType]
    EVENT_TYPE_SEARCH: _ClassVar[EventType]
    EVENT_TYPE_ADD_TO_CART: _ClassVar[EventType]
    EVENT_TYPE_REMOVE_FROM_CART: _ClassVar[EventType]
    EVENT_TYPE_PURCHASE: _ClassVar[EventType]
    EVENT_TYPE_RETURN: _ClassVar[EventType]
    EVENT_TYPE_IMPRESSION: _ClassVar[EventType]
    EVENT_TYPE_CLICK: _ClassVar[EventType]
    EVENT_TYPE_DISMISS: _ClassVar[EventType]
    EVENT_TYPE_SEE_LESS: _ClassVar[EventType]
    EVENT_TYPE_RATING: _ClassVar[EventType]
    EVENT_TYPE_CANCEL: _ClassVar[EventType]
EVENT_TYPE_UNSPECIFIED: EventType
EVENT_TYPE_VIEW: EventType
EVENT_TYPE_SEARCH: EventType
EVENT_TYPE_ADD_TO_CART: EventType
EVENT_TYPE_REMOVE_FROM_CART: EventType
EVENT_TYPE_PURCHASE: EventType
EVENT_TYPE_RETURN: EventType
EVENT_TYPE_IMPRESSION: EventType
EVENT_TYPE_CLICK: EventType
EVENT_TYPE_DISMISS: EventType
EVENT_TYPE_SEE_LESS: EventType
EVENT_TYPE_RATING: EventType
EVENT_TYPE_CANCEL: EventType

class Event(_message.Message):
    __slots__ = ("event_id", "type", "user_id", "items", "category", "query", "value", "event_time", "push_id", "order_id", "change", "decision_token")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    DECISION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    type: EventType
    user_id: str
    items: _containers.RepeatedCompositeFieldContainer[EventItem]
    category: str
    query: str
    value: float
    event_time: _timestamp_pb2.Timestamp
    push_id: str
    order_id: str
    change: _change_pb2.ProfileChange
    decision_token: str
    def __init__(self, event_id: _Optional[str] = ..., type: _Optional[_Union[EventType, str]] = ..., user_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[EventItem, _Mapping]]] = ..., category: _Optional[str] = ..., query: _Optional[str] = ..., value: _Optional[float] = ..., event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., push_id: _Optional[str] = ..., order_id: _Optional[str] = ..., change: _Optional[_Union[_change_pb2.ProfileChange, _Mapping]] = ..., decision_token: _Optional[str] = ...) -> None: ...

class EventItem(_message.Message):
    __slots__ = ("item_id", "quantity", "price")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    quantity: int
    price: float
    def __init__(self, item_id: _Optional[str] = ..., quantity: _Optional[int] = ..., price: _Optional[float] = ...) -> None: ...
