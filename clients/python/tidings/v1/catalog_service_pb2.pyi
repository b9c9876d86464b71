from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import attribute_pb2 as _attribute_pb2
from tidings.v1 import item_pb2 as _item_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpsertResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPSERT_RESULT_UNSPECIFIED: _ClassVar[UpsertResult]
    UPSERT_RESULT_APPLIED: _ClassVar[UpsertResult]
    UPSERT_RESULT_OLDER: _ClassVar[UpsertResult]
    UPSERT_RESULT_UNCHANGED: _ClassVar[UpsertResult]

class DeleteResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELETE_RESULT_UNSPECIFIED: _ClassVar[DeleteResult]
    DELETE_RESULT_DELETED: _ClassVar[DeleteResult]
    DELETE_RESULT_OLDER: _ClassVar[DeleteResult]
    DELETE_RESULT_NOT_FOUND: _ClassVar[DeleteResult]
UPSERT_RESULT_UNSPECIFIED: UpsertResult
UPSERT_RESULT_APPLIED: UpsertResult
UPSERT_RESULT_OLDER: UpsertResult
UPSERT_RESULT_UNCHANGED: UpsertResult
DELETE_RESULT_UNSPECIFIED: DeleteResult
DELETE_RESULT_DELETED: DeleteResult
DELETE_RESULT_OLDER: DeleteResult
DELETE_RESULT_NOT_FOUND: DeleteResult

class CatalogItem(_message.Message):
    __slots__ = ("item", "attributes", "available", "stock", "vector", "update_time")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _attribute_pb2.AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_attribute_pb2.AttributeValue, _Mapping]] = ...) -> None: ...
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    STOCK_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    item: _item_pb2.Item
    attributes: _containers.MessageMap[str, _attribute_pb2.AttributeValue]
    available: bool
    stock: float
    vector: _containers.RepeatedScalarFieldContainer[float]
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, item: _Optional[_Union[_item_pb2.Item, _Mapping]] = ..., attributes: _Optional[_Mapping[str, _attribute_pb2.AttributeValue]] = ..., available: bool = ..., stock: _Optional[float] = ..., vector: _Optional[_Iterable[float]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UpsertItemsRequest(_message.Message):
    __slots__ = ("items", "update_mask")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CatalogItem]
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, items: _Optional[_Iterable[_Union[CatalogItem, _Mapping]]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpsertItemsResponse(_message.Message):
    __slots__ = ("results", "consistency_token")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedScalarFieldContainer[UpsertResult]
    consistency_token: str
    def __init__(self, results: _Optional[_Iterable[_Union[UpsertResult, str]]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class DeleteItemsRequest(_message.Message):
    __slots__ = ("item_ids", "update_time")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeleteItemsResponse(_message.Message):
    __slots__ = ("results", "consistency_token")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedScalarFieldContainer[DeleteResult]
    consistency_token: str
    def __init__(self, results: _Optional[_Iterable[_Union[DeleteResult, str]]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class GetItemRequest(_message.Message):
    __slots__ = ("item_id", "consistency_token")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    consistency_token: str
    def __init__(self, item_id: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class GetItemResponse(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: CatalogItem
    def __init__(self, item: _Optional[_Union[CatalogItem, _Mapping]] = ...) -> None: ...

class ListItemsRequest(_message.Message):
    __slots__ = ("page_token",)
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_token: str
    def __init__(self, page_token: _Optional[str] = ...) -> None: ...

class ListItemsResponse(_message.Message):
    __slots__ = ("items", "next_page_token")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CatalogItem]
    next_page_token: str
    def __init__(self, items: _Optional[_Iterable[_Union[CatalogItem, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
