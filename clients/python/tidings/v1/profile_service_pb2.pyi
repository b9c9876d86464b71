from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import attribute_pb2 as _attribute_pb2
from tidings.v1 import change_pb2 as _change_pb2
from tidings.v1 import contact_pb2 as _contact_pb2
from tidings.v1 import erasure_pb2 as _erasure_pb2
from tidings.v1 import event_pb2 as _event_pb2
from tidings.v1 import preferences_pb2 as _preferences_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MergeProfilesRequest(_message.Message):
    __slots__ = ("visitor_id", "user_id")
    VISITOR_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    visitor_id: str
    user_id: str
    def __init__(self, visitor_id: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class MergeProfilesResponse(_message.Message):
    __slots__ = ("user_id", "already", "consistency_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ALREADY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    already: bool
    consistency_token: str
    def __init__(self, user_id: _Optional[str] = ..., already: bool = ..., consistency_token: _Optional[str] = ...) -> None: ...

class UpdateProfileRequest(_message.Message):
    __slots__ = ("event_id", "user_id", "attributes", "remove_attributes", "tags", "remove_tags", "source", "event_time")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _attribute_pb2.AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_attribute_pb2.AttributeValue, _Mapping]] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    REMOVE_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_TAGS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    attributes: _containers.MessageMap[str, _attribute_pb2.AttributeValue]
    remove_attributes: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedCompositeFieldContainer[_change_pb2.TagSetting]
    remove_tags: _containers.RepeatedScalarFieldContainer[str]
    source: str
    event_time: _timestamp_pb2.Timestamp
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., attributes: _Optional[_Mapping[str, _attribute_pb2.AttributeValue]] = ..., remove_attributes: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[_Union[_change_pb2.TagSetting, _Mapping]]] = ..., remove_tags: _Optional[_Iterable[str]] = ..., source: _Optional[str] = ..., event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UpdateProfileResponse(_message.Message):
    __slots__ = ("duplicate", "consistency_token")
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    duplicate: bool
    consistency_token: str
    def __init__(self, duplicate: bool = ..., consistency_token: _Optional[str] = ...) -> None: ...

class GetProfileRequest(_message.Message):
    __slots__ = ("user_id", "consistency_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    consistency_token: str
    def __init__(self, user_id: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class GetProfileResponse(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: Profile
    def __init__(self, profile: _Optional[_Union[Profile, _Mapping]] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("user_id", "version", "first_event_time", "last_event_time", "counts", "recent_events", "bought_items", "bought_item_count", "blocked_item_ids", "blocked_categories", "categories", "brands", "known_to_release", "spent", "attributes", "tags", "ratings", "searches", "visits", "prices", "contacts", "preferences")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_ITEMS_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_TO_RELEASE_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    RATINGS_FIELD_NUMBER: _ClassVar[int]
    SEARCHES_FIELD_NUMBER: _ClassVar[int]
    VISITS_FIELD_NUMBER: _ClassVar[int]
    PRICES_FIELD_NUMBER: _ClassVar[int]
    CONTACTS_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    version: int
    first_event_time: _timestamp_pb2.Timestamp
    last_event_time: _timestamp_pb2.Timestamp
    counts: _containers.RepeatedCompositeFieldContainer[EventCount]
    recent_events: _containers.RepeatedCompositeFieldContainer[RecentEvent]
    bought_items: _containers.RepeatedCompositeFieldContainer[BoughtItem]
    bought_item_count: int
    blocked_item_ids: _containers.RepeatedScalarFieldContainer[str]
    blocked_categories: _containers.RepeatedScalarFieldContainer[str]
    categories: _containers.RepeatedCompositeFieldContainer[Affinity]
    brands: _containers.RepeatedCompositeFieldContainer[Affinity]
    known_to_release: bool
    spent: float
    attributes: _containers.RepeatedCompositeFieldContainer[ProfileAttribute]
    tags: _containers.RepeatedCompositeFieldContainer[ProfileTag]
    ratings: _containers.RepeatedCompositeFieldContainer[Rating]
    searches: _containers.RepeatedCompositeFieldContainer[Search]
    visits: _containers.RepeatedCompositeFieldContainer[Visit]
    prices: PriceAffinity
    contacts: _containers.RepeatedCompositeFieldContainer[_contact_pb2.KnownContact]
    preferences: _preferences_pb2.Preferences
    def __init__(self, user_id: _Optional[str] = ..., version: _Optional[int] = ..., first_event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., counts: _Optional[_Iterable[_Union[EventCount, _Mapping]]] = ..., recent_events: _Optional[_Iterable[_Union[RecentEvent, _Mapping]]] = ..., bought_items: _Optional[_Iterable[_Union[BoughtItem, _Mapping]]] = ..., bought_item_count: _Optional[int] = ..., blocked_item_ids: _Optional[_Iterable[str]] = ..., blocked_categories: _Optional[_Iterable[str]] = ..., categories: _Optional[_Iterable[_Union[Affinity, _Mapping]]] = ..., brands: _Optional[_Iterable[_Union[Affinity, _Mapping]]] = ..., known_to_release: bool = ..., spent: _Optional[float] = ..., attributes: _Optional[_Iterable[_Union[ProfileAttribute, _Mapping]]] = ..., tags: _Optional[_Iterable[_Union[ProfileTag, _Mapping]]] = ..., ratings: _Optional[_Iterable[_Union[Rating, _Mapping]]] = ..., searches: _Optional[_Iterable[_Union[Search, _Mapping]]] = ..., visits: _Optional[_Iterable[_Union[Visit, _Mapping]]] = ..., prices: _Optional[_Union[PriceAffinity, _Mapping]] = ..., contacts: _Optional[_Iterable[_Union[_contact_pb2.KnownContact, _Mapping]]] = ..., preferences: _Optional[_Union[_preferences_pb2.Preferences, _Mapping]] = ...) -> None: ...

class ProfileAttribute(_message.Message):
    __slots__ = ("name", "value", "source", "since")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: _attribute_pb2.AttributeValue
    source: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., value: _Optional[_Union[_attribute_pb2.AttributeValue, _Mapping]] = ..., source: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ProfileTag(_message.Message):
    __slots__ = ("tag", "weight", "source", "since", "expire_time")
    TAG_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    tag: str
    weight: float
    source: str
    since: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, tag: _Optional[str] = ..., weight: _Optional[float] = ..., source: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Rating(_message.Message):
    __slots__ = ("item_id", "event_time", "stars")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    STARS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    event_time: _timestamp_pb2.Timestamp
    stars: float
    def __init__(self, item_id: _Optional[str] = ..., event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., stars: _Optional[float] = ...) -> None: ...

class Search(_message.Message):
    __slots__ = ("query", "event_time")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    query: str
    event_time: _timestamp_pb2.Timestamp
    def __init__(self, query: _Optional[str] = ..., event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ("start_time", "end_time", "events")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    events: int
    def __init__(self, start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., events: _Optional[int] = ...) -> None: ...

class PriceAffinity(_message.Message):
    __slots__ = ("low", "middle", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    MIDDLE_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    middle: float
    high: float
    def __init__(self, low: _Optional[float] = ..., middle: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class EventCount(_message.Message):
    __slots__ = ("type", "total", "last_day", "last_week", "last_month", "decayed")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LAST_DAY_FIELD_NUMBER: _ClassVar[int]
    LAST_WEEK_FIELD_NUMBER: _ClassVar[int]
    LAST_MONTH_FIELD_NUMBER: _ClassVar[int]
    DECAYED_FIELD_NUMBER: _ClassVar[int]
    type: _event_pb2.EventType
    total: int
    last_day: int
    last_week: int
    last_month: int
    decayed: float
    def __init__(self, type: _Optional[_Union[_event_pb2.EventType, str]] = ..., total: _Optional[int] = ..., last_day: _Optional[int] = ..., last_week: _Optional[int] = ..., last_month: _Optional[int] = ..., decayed: _Optional[float] = ...) -> None: ...

class RecentEvent(_message.Message):
    __slots__ = ("type", "event_time", "item_ids", "category", "query", "value")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type: _event_pb2.EventType
    event_time: _timestamp_pb2.Timestamp
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    category: str
    query: str
    value: float
    def __init__(self, type: _Optional[_Union[_event_pb2.EventType, str]] = ..., event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., query: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class BoughtItem(_message.Message):
    __slots__ = ("item_id", "last_time", "purchases", "returns")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_FIELD_NUMBER: _ClassVar[int]
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    last_time: _timestamp_pb2.Timestamp
    purchases: int
    returns: int
    def __init__(self, item_id: _Optional[str] = ..., last_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., purchases: _Optional[int] = ..., returns: _Optional[int] = ...) -> None: ...

class Affinity(_message.Message):
    __slots__ = ("value", "share")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    value: str
    share: float
    def __init__(self, value: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...
