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
    TidingsError,
    Unavailable,
    Unimplemented,
)
from tidings.model import (
    Degradation,
    DegradationCause,
    Item,
    Promotion,
    Reason,
    ReasonCode,
    Recommendation,
    RecommendedItem,
    RecommendQuery,
    Release,
    ReleaseState,
    SourceScore,
)
from tidings.proto_files import proto_dir

__all__ = [
    "Client",
    "DeadlineExceeded",
    "Degradation",
    "DegradationCause",
    "FailedPrecondition",
    "InternalError",
    "InvalidArgument",
    "Item",
    "NotFound",
    "Overloaded",
    "Promotion",
    "Reason",
    "ReasonCode",
    "RecommendQuery",
    "Recommendation",
    "RecommendedItem",
    "Release",
    "ReleaseState",
    "SourceScore",
    "TidingsError",
    "Unavailable",
    "Unimplemented",
    "aio",
    "proto_dir",
]
