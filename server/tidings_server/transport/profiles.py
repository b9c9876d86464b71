"""ProfileService: what is known of a user, as bytes."""

from collections.abc import Callable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import profile_service_pb2 as pb
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.profile import RecentEvent
from tidings_server.application.get_profile import EventCount, GetProfile, ShownProfile
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.events import TYPES


class ProfileHandlers:
    """The handlers of ProfileService."""

    def __init__(self, get_profile: GetProfile, check: Callable[[str], None]) -> None:
        """`check` sees that a read shows the write of a consistency token, or raises InvalidInput or Conflict."""
        self._get_profile = get_profile
        self._check = check

    def get_profile(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer GetProfile calls."""
        return [self._answered(call.body) for call in calls]

    def _answered(self, body: bytes) -> bytes | TidingsError:
        try:
            request = parse(pb.GetProfileRequest(), body)
            problem = id_fault(request.user_id)
            if problem:
                raise InvalidInput(("user_id", problem))
            self._check(request.consistency_token)
            shown = self._get_profile(request.user_id)
        except TidingsError as error:
            return error
        return pb.GetProfileResponse(profile=_profile(shown)).SerializeToString()


def _profile(shown: ShownProfile) -> pb.Profile:
    return pb.Profile(
        user_id=shown.user_id,
        version=shown.version,
        first_event_time=_timestamp(shown.first_time),
        last_event_time=_timestamp(shown.last_time),
        counts=[_count(count) for count in shown.counts],
        recent_events=[_event(event, ids) for event, ids in zip(shown.recent, shown.item_ids, strict=True)],
        bought_items=[
            pb.BoughtItem(
                item_id=item_id, last_time=_timestamp(bought.time), purchases=bought.purchases, returns=bought.returns
            )
            for item_id, bought in shown.bought
        ],
        bought_item_count=shown.bought_count,
        blocked_item_ids=shown.blocked_items,
        blocked_categories=shown.blocked_categories,
        categories=[pb.Affinity(value=value, share=share) for value, share in shown.categories],
        brands=[pb.Affinity(value=value, share=share) for value, share in shown.brands],
        known_to_release=shown.known_to_release,
        spent=shown.spent,
    )


def _count(count: EventCount) -> pb.EventCount:
    return pb.EventCount(
        type=TYPES[count.type],
        total=count.total,
        last_day=count.last_day,
        last_week=count.last_week,
        last_month=count.last_month,
    )


def _event(event: RecentEvent, item_ids: Sequence[str]) -> pb.RecentEvent:
    return pb.RecentEvent(
        type=TYPES[event.type],
        event_time=_timestamp(event.time),
        item_ids=item_ids,
        category=event.category,
        query=event.query,
        value=event.value,
    )


def _timestamp(milliseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(milliseconds)
    return stamp
