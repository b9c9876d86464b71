"""The Python client of Tidings.

    import tidings

    with tidings.Client("127.0.0.1:50051") as client:
        for item in client.recommend("u42", k=5).items:
            print(item.item.item_id, item.score)

`tidings.aio.Client` is the same for asyncio. Results are frozen values (`model.py`); errors are one tree (`errors.py`).
"""

from tidings import aio
from tidings.client import Client
from tidings.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    NotFound,
    Overloaded,
    Replaced,
    StorageFull,
    TidingsError,
    Unavailable,
    Unimplemented,
)
from tidings.model import (
    Affinity,
    BoughtItem,
    Degradation,
    DegradationCause,
    Disposition,
    Event,
    EventCount,
    EventFault,
    EventItem,
    EventStatus,
    EventType,
    EventVerdict,
    Item,
    Profile,
    Promotion,
    Push,
    PushDecision,
    Reason,
    ReasonCode,
    RecentEvent,
    Recommendation,
    RecommendedItem,
    RecommendExamples,
    RecommendQuery,
    Recorded,
    Release,
    ReleaseState,
    SentPush,
    SourceScore,
    SuppressReason,
)
from tidings.proto_files import proto_dir
from tidings.subscription import Subscription

__all__ = [
    "Affinity",
    "BoughtItem",
    "Client",
    "DeadlineExceeded",
    "Degradation",
    "DegradationCause",
    "Disposition",
    "Event",
    "EventCount",
    "EventFault",
    "EventItem",
    "EventStatus",
    "EventType",
    "EventVerdict",
    "FailedPrecondition",
    "InternalError",
    "InvalidArgument",
    "Item",
    "NotFound",
    "Overloaded",
    "Profile",
    "Promotion",
    "Push",
    "PushDecision",
    "Reason",
    "ReasonCode",
    "RecentEvent",
    "RecommendExamples",
    "RecommendQuery",
    "Recommendation",
    "RecommendedItem",
    "Recorded",
    "Release",
    "ReleaseState",
    "Replaced",
    "SentPush",
    "SourceScore",
    "StorageFull",
    "Subscription",
    "SuppressReason",
    "TidingsError",
    "Unavailable",
    "Unimplemented",
    "aio",
    "proto_dir",
]
