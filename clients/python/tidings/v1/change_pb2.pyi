from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import attribute_pb2 as _attribute_pb2
from tidings.v1 import preferences_pb2 as _preferences_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProfileChange(_message.Message):
    __slots__ = ("update", "tag_move", "preferences", "merge")
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    TAG_MOVE_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    update: ProfileUpdate
    tag_move: TagMove
    preferences: _preferences_pb2.Preferences
    merge: Merge
    def __init__(self, update: _Optional[_Union[ProfileUpdate, _Mapping]] = ..., tag_move: _Optional[_Union[TagMove, _Mapping]] = ..., preferences: _Optional[_Union[_preferences_pb2.Preferences, _Mapping]] = ..., merge: _Optional[_Union[Merge, _Mapping]] = ...) -> None: ...

class Merge(_message.Message):
    __slots__ = ("visitor_id",)
    VISITOR_ID_FIELD_NUMBER: _ClassVar[int]
    visitor_id: str
    def __init__(self, visitor_id: _Optional[str] = ...) -> None: ...

class ProfileUpdate(_message.Message):
    __slots__ = ("attributes", "removed_attributes", "tags", "removed_tags", "source")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _attribute_pb2.AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_attribute_pb2.AttributeValue, _Mapping]] = ...) -> None: ...
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_TAGS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.MessageMap[str, _attribute_pb2.AttributeValue]
    removed_attributes: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedCompositeFieldContainer[TagSetting]
    removed_tags: _containers.RepeatedScalarFieldContainer[str]
    source: str
    def __init__(self, attributes: _Optional[_Mapping[str, _attribute_pb2.AttributeValue]] = ..., removed_attributes: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[_Union[TagSetting, _Mapping]]] = ..., removed_tags: _Optional[_Iterable[str]] = ..., source: _Optional[str] = ...) -> None: ...

class TagMove(_message.Message):
    __slots__ = ("tag", "entered")
    TAG_FIELD_NUMBER: _ClassVar[int]
    ENTERED_FIELD_NUMBER: _ClassVar[int]
    tag: str
    entered: bool
    def __init__(self, tag: _Optional[str] = ..., entered: bool = ...) -> None: ...

class TagSetting(_message.Message):
    __slots__ = ("tag", "weight", "expire_time")
    TAG_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    tag: str
    weight: float
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, tag: _Optional[str] = ..., weight: _Optional[float] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
