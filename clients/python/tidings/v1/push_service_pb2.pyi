from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import recommendation_service_pb2 as _recommendation_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WithdrawCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WITHDRAW_CAUSE_UNSPECIFIED: _ClassVar[WithdrawCause]
    WITHDRAW_CAUSE_COLLAPSED: _ClassVar[WithdrawCause]

class GoAwayReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GO_AWAY_REASON_UNSPECIFIED: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_STOPPING: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_REPLACED: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_FAILED: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_ERASED: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_MERGED: _ClassVar[GoAwayReason]

class Disposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISPOSITION_UNSPECIFIED: _ClassVar[Disposition]
    DISPOSITION_DELIVERED: _ClassVar[Disposition]
    DISPOSITION_DISPLAYED: _ClassVar[Disposition]
    DISPOSITION_CLICKED: _ClassVar[Disposition]
    DISPOSITION_DISMISSED: _ClassVar[Disposition]
    DISPOSITION_REJECTED: _ClassVar[Disposition]

class PushDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUSH_DECISION_UNSPECIFIED: _ClassVar[PushDecision]
    PUSH_DECISION_SENT: _ClassVar[PushDecision]
    PUSH_DECISION_SUPPRESSED: _ClassVar[PushDecision]

class SuppressReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUPPRESS_REASON_UNSPECIFIED: _ClassVar[SuppressReason]
    SUPPRESS_REASON_CAP_DAY: _ClassVar[SuppressReason]
    SUPPRESS_REASON_NO_CANDIDATE: _ClassVar[SuppressReason]
    SUPPRESS_REASON_NO_RELEASE: _ClassVar[SuppressReason]
    SUPPRESS_REASON_EXPIRED: _ClassVar[SuppressReason]
    SUPPRESS_REASON_COOLDOWN: _ClassVar[SuppressReason]
    SUPPRESS_REASON_FAILED: _ClassVar[SuppressReason]
    SUPPRESS_REASON_NO_CONSENT: _ClassVar[SuppressReason]
    SUPPRESS_REASON_MINOR: _ClassVar[SuppressReason]
    SUPPRESS_REASON_CHANNEL_OFF: _ClassVar[SuppressReason]
    SUPPRESS_REASON_TOPIC_OFF: _ClassVar[SuppressReason]
    SUPPRESS_REASON_QUIET_HOURS: _ClassVar[SuppressReason]
    SUPPRESS_REASON_CONDITION: _ClassVar[SuppressReason]
WITHDRAW_CAUSE_UNSPECIFIED: WithdrawCause
WITHDRAW_CAUSE_COLLAPSED: WithdrawCause
GO_AWAY_REASON_UNSPECIFIED: GoAwayReason
GO_AWAY_REASON_STOPPING: GoAwayReason
GO_AWAY_REASON_REPLACED: GoAwayReason
GO_AWAY_REASON_FAILED: GoAwayReason
GO_AWAY_REASON_ERASED: GoAwayReason
GO_AWAY_REASON_MERGED: GoAwayReason
DISPOSITION_UNSPECIFIED: Disposition
DISPOSITION_DELIVERED: Disposition
DISPOSITION_DISPLAYED: Disposition
DISPOSITION_CLICKED: Disposition
DISPOSITION_DISMISSED: Disposition
DISPOSITION_REJECTED: Disposition
PUSH_DECISION_UNSPECIFIED: PushDecision
PUSH_DECISION_SENT: PushDecision
PUSH_DECISION_SUPPRESSED: PushDecision
SUPPRESS_REASON_UNSPECIFIED: SuppressReason
SUPPRESS_REASON_CAP_DAY: SuppressReason
SUPPRESS_REASON_NO_CANDIDATE: SuppressReason
SUPPRESS_REASON_NO_RELEASE: SuppressReason
SUPPRESS_REASON_EXPIRED: SuppressReason
SUPPRESS_REASON_COOLDOWN: SuppressReason
SUPPRESS_REASON_FAILED: SuppressReason
SUPPRESS_REASON_NO_CONSENT: SuppressReason
SUPPRESS_REASON_MINOR: SuppressReason
SUPPRESS_REASON_CHANNEL_OFF: SuppressReason
SUPPRESS_REASON_TOPIC_OFF: SuppressReason
SUPPRESS_REASON_QUIET_HOURS: SuppressReason
SUPPRESS_REASON_CONDITION: SuppressReason

class SubscribeRequest(_message.Message):
    __slots__ = ("user_id", "device_id", "resume", "max_unacked")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    resume: Resume
    max_unacked: int
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., max_unacked: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("epoch", "offset")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    offset: int
    def __init__(self, epoch: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("subscribed", "push", "withdraw", "heartbeat", "go_away")
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    PUSH_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    subscribed: Subscribed
    push: Push
    withdraw: Withdraw
    heartbeat: Heartbeat
    go_away: GoAway
    def __init__(self, subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., push: _Optional[_Union[Push, _Mapping]] = ..., withdraw: _Optional[_Union[Withdraw, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("subscription_id", "epoch", "offset", "recovered", "heartbeat_interval")
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    epoch: str
    offset: int
    recovered: bool
    heartbeat_interval: _duration_pb2.Duration
    def __init__(self, subscription_id: _Optional[str] = ..., epoch: _Optional[str] = ..., offset: _Optional[int] = ..., recovered: bool = ..., heartbeat_interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Push(_message.Message):
    __slots__ = ("push_id", "offset", "prev_offset", "create_time", "expire_time", "collapse_key", "title", "body", "items", "url", "data", "trigger", "event_id", "release_id", "serving_config")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PREV_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    COLLAPSE_KEY_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SERVING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    offset: int
    prev_offset: int
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    collapse_key: str
    title: str
    body: str
    items: _containers.RepeatedCompositeFieldContainer[_recommendation_service_pb2.RecommendedItem]
    url: str
    data: _containers.ScalarMap[str, str]
    trigger: str
    event_id: str
    release_id: str
    serving_config: str
    def __init__(self, push_id: _Optional[str] = ..., offset: _Optional[int] = ..., prev_offset: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., collapse_key: _Optional[str] = ..., title: _Optional[str] = ..., body: _Optional[str] = ..., items: _Optional[_Iterable[_Union[_recommendation_service_pb2.RecommendedItem, _Mapping]]] = ..., url: _Optional[str] = ..., data: _Optional[_Mapping[str, str]] = ..., trigger: _Optional[str] = ..., event_id: _Optional[str] = ..., release_id: _Optional[str] = ..., serving_config: _Optional[str] = ...) -> None: ...

class Withdraw(_message.Message):
    __slots__ = ("push_id", "cause")
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    cause: WithdrawCause
    def __init__(self, push_id: _Optional[str] = ..., cause: _Optional[_Union[WithdrawCause, str]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("server_time", "newest_offset")
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    NEWEST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    server_time: _timestamp_pb2.Timestamp
    newest_offset: int
    def __init__(self, server_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., newest_offset: _Optional[int] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "reconnect_delay", "resumable")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_DELAY_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    reason: GoAwayReason
    reconnect_delay: _duration_pb2.Duration
    resumable: bool
    def __init__(self, reason: _Optional[_Union[GoAwayReason, str]] = ..., reconnect_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., resumable: bool = ...) -> None: ...

class AcknowledgeRequest(_message.Message):
    __slots__ = ("user_id", "subscription_id", "offset", "outcomes")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    subscription_id: str
    offset: int
    outcomes: _containers.RepeatedCompositeFieldContainer[PushOutcome]
    def __init__(self, user_id: _Optional[str] = ..., subscription_id: _Optional[str] = ..., offset: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[PushOutcome, _Mapping]]] = ...) -> None: ...

class PushOutcome(_message.Message):
    __slots__ = ("push_id", "disposition")
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    disposition: Disposition
    def __init__(self, push_id: _Optional[str] = ..., disposition: _Optional[_Union[Disposition, str]] = ...) -> None: ...

class AcknowledgeResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class SendPushRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "title", "body", "item_ids", "url", "data", "ttl", "collapse_key", "topic", "asked_for")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    COLLAPSE_KEY_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ASKED_FOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    title: str
    body: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    url: str
    data: _containers.ScalarMap[str, str]
    ttl: _duration_pb2.Duration
    collapse_key: str
    topic: str
    asked_for: bool
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., title: _Optional[str] = ..., body: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., url: _Optional[str] = ..., data: _Optional[_Mapping[str, str]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., collapse_key: _Optional[str] = ..., topic: _Optional[str] = ..., asked_for: bool = ...) -> None: ...

class SendPushResponse(_message.Message):
    __slots__ = ("decision", "reason", "push_id", "offset")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    decision: PushDecision
    reason: SuppressReason
    push_id: str
    offset: int
    def __init__(self, decision: _Optional[_Union[PushDecision, str]] = ..., reason: _Optional[_Union[SuppressReason, str]] = ..., push_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...
