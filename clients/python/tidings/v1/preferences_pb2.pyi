from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Choice(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHOICE_UNSPECIFIED: _ClassVar[Choice]
    CHOICE_YES: _ClassVar[Choice]
    CHOICE_NO: _ClassVar[Choice]
    CHOICE_DEFAULT: _ClassVar[Choice]

class Channel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_UNSPECIFIED: _ClassVar[Channel]
    CHANNEL_STREAM: _ClassVar[Channel]
    CHANNEL_EMAIL: _ClassVar[Channel]
    CHANNEL_SMS: _ClassVar[Channel]
    CHANNEL_WEB_PUSH: _ClassVar[Channel]
    CHANNEL_MOBILE_PUSH: _ClassVar[Channel]
    CHANNEL_WEBHOOK: _ClassVar[Channel]

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_PROFILING: _ClassVar[Purpose]
    PURPOSE_MARKETING: _ClassVar[Purpose]
    PURPOSE_TRAINING: _ClassVar[Purpose]

class Weekday(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEEKDAY_UNSPECIFIED: _ClassVar[Weekday]
    WEEKDAY_MONDAY: _ClassVar[Weekday]
    WEEKDAY_TUESDAY: _ClassVar[Weekday]
    WEEKDAY_WEDNESDAY: _ClassVar[Weekday]
    WEEKDAY_THURSDAY: _ClassVar[Weekday]
    WEEKDAY_FRIDAY: _ClassVar[Weekday]
    WEEKDAY_SATURDAY: _ClassVar[Weekday]
    WEEKDAY_SUNDAY: _ClassVar[Weekday]
CHOICE_UNSPECIFIED: Choice
CHOICE_YES: Choice
CHOICE_NO: Choice
CHOICE_DEFAULT: Choice
CHANNEL_UNSPECIFIED: Channel
CHANNEL_STREAM: Channel
CHANNEL_EMAIL: Channel
CHANNEL_SMS: Channel
CHANNEL_WEB_PUSH: Channel
CHANNEL_MOBILE_PUSH: Channel
CHANNEL_WEBHOOK: Channel
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_PROFILING: Purpose
PURPOSE_MARKETING: Purpose
PURPOSE_TRAINING: Purpose
WEEKDAY_UNSPECIFIED: Weekday
WEEKDAY_MONDAY: Weekday
WEEKDAY_TUESDAY: Weekday
WEEKDAY_WEDNESDAY: Weekday
WEEKDAY_THURSDAY: Weekday
WEEKDAY_FRIDAY: Weekday
WEEKDAY_SATURDAY: Weekday
WEEKDAY_SUNDAY: Weekday

class Preferences(_message.Message):
    __slots__ = ("channels", "topics", "purposes", "quiet_hours", "max_per_day")
    class TopicsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Choice
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Choice, str]] = ...) -> None: ...
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    QUIET_HOURS_FIELD_NUMBER: _ClassVar[int]
    MAX_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[ChannelChoice]
    topics: _containers.ScalarMap[str, Choice]
    purposes: _containers.RepeatedCompositeFieldContainer[PurposeChoice]
    quiet_hours: QuietHours
    max_per_day: int
    def __init__(self, channels: _Optional[_Iterable[_Union[ChannelChoice, _Mapping]]] = ..., topics: _Optional[_Mapping[str, Choice]] = ..., purposes: _Optional[_Iterable[_Union[PurposeChoice, _Mapping]]] = ..., quiet_hours: _Optional[_Union[QuietHours, _Mapping]] = ..., max_per_day: _Optional[int] = ...) -> None: ...

class ChannelChoice(_message.Message):
    __slots__ = ("channel", "choice")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    channel: Channel
    choice: Choice
    def __init__(self, channel: _Optional[_Union[Channel, str]] = ..., choice: _Optional[_Union[Choice, str]] = ...) -> None: ...

class PurposeChoice(_message.Message):
    __slots__ = ("purpose", "choice")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    purpose: Purpose
    choice: Choice
    def __init__(self, purpose: _Optional[_Union[Purpose, str]] = ..., choice: _Optional[_Union[Choice, str]] = ...) -> None: ...

class QuietHours(_message.Message):
    __slots__ = ("time_zone", "spans")
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    time_zone: str
    spans: _containers.RepeatedCompositeFieldContainer[QuietSpan]
    def __init__(self, time_zone: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[QuietSpan, _Mapping]]] = ...) -> None: ...

class QuietSpan(_message.Message):
    __slots__ = ("weekday", "start_minute", "end_minute")
    WEEKDAY_FIELD_NUMBER: _ClassVar[int]
    START_MINUTE_FIELD_NUMBER: _ClassVar[int]
    END_MINUTE_FIELD_NUMBER: _ClassVar[int]
    weekday: Weekday
    start_minute: int
    end_minute: int
    def __init__(self, weekday: _Optional[_Union[Weekday, str]] = ..., start_minute: _Optional[int] = ..., end_minute: _Optional[int] = ...) -> None: ...

class SetPreferencesRequest(_message.Message):
    __slots__ = ("event_id", "user_id", "preferences", "event_time", "lift_erasure")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    LIFT_ERASURE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    preferences: Preferences
    event_time: _timestamp_pb2.Timestamp
    lift_erasure: bool
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., preferences: _Optional[_Union[Preferences, _Mapping]] = ..., event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., lift_erasure: bool = ...) -> None: ...

class SetPreferencesResponse(_message.Message):
    __slots__ = ("duplicate", "consistency_token")
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    duplicate: bool
    consistency_token: str
    def __init__(self, duplicate: bool = ..., consistency_token: _Optional[str] = ...) -> None: ...
