"""ProfileService: what is known of a user, as bytes, and what is said of one, from bytes."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import profile_service_pb2 as pb
from tidings_core.declared import Declarations
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.profile import RecentEvent
from tidings_server.application.get_profile import EventCount, GetProfile, ShownProfile
from tidings_server.application.record_change import Changed
from tidings_server.application.update_profile import UpdateProfile
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.changes import fill_value, read_update, stamp
from tidings_server.transport.contacts import show_contact
from tidings_server.transport.events import TYPES
from tidings_server.transport.preferences import shown as shown_words

log = structlog.get_logger(__name__)


class ProfileHandlers:
    """The handlers of ProfileService."""

    def __init__(
        self,
        get_profile: GetProfile,
        update: UpdateProfile,
        declared: Declarations,
        check: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """`check` sees that a read shows the write of a consistency token, or raises InvalidInput or Conflict.

        `now` gives Unix seconds.
        """
        self._get_profile = get_profile
        self._update = update
        self._declared = declared
        self._check = check
        self._now = now

    def get_profile(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer GetProfile calls."""
        return [self._answered(call.body) for call in calls]

    def update_profile(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer UpdateProfile calls together. Blocks until what they change is on disk."""
        return [_changed(future) for future in [self._start(call.body) for call in calls]]

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
        profile = _profile(shown)
        self._state(profile, shown)
        return pb.GetProfileResponse(profile=profile).SerializeToString()

    def _start(self, body: bytes) -> "Future[Changed] | TidingsError":
        try:
            request = parse(pb.UpdateProfileRequest(), body)
            change, faults = read_update(request, int(self._now() * 1000))
            return self._update(change, request.HasField("event_time"), faults)
        except TidingsError as error:
            return error
        except Exception:  # A fault of ours; it must not hurt the other calls.
            log.exception("update profile failed")
            return TidingsError("the server failed; its log says why")

    def _state(self, profile: pb.Profile, shown: ShownProfile) -> None:
        """Add what is stated of the user, how the user can be reached, and what the user said."""
        profile.contacts.extend(show_contact(contact) for contact in shown.contacts)
        if shown.preferences.words:
            profile.preferences.CopyFrom(shown_words((n, w.value) for n, w in shown.preferences.words.items()))
        for name, word in shown.attributes:
            attribute = profile.attributes.add(name=name, source=word.source, since=stamp(word.time))
            declaration = self._declared.get(name)
            assert word.value is not None
            fill_value(attribute.value, None if declaration is None else declaration.kind, word.value)
        for tag in shown.tags:
            profile.tags.add(
                tag=tag.tag,
                weight=tag.weight,
                source=tag.source,
                since=stamp(tag.since) if tag.since else None,
                expire_time=stamp(tag.expires) if tag.expires else None,
            )


def _changed(future: "Future[Changed] | TidingsError") -> bytes | TidingsError:
    if isinstance(future, TidingsError):
        return future
    try:
        made = future.result()
    except TidingsError as error:
        return error
    except Exception:
        log.exception("update profile failed")
        return TidingsError("the server failed; its log says why")
    return pb.UpdateProfileResponse(duplicate=made.duplicate, consistency_token=made.token).SerializeToString()


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
        ratings=[
            pb.Rating(item_id=item_id, event_time=_timestamp(time), stars=stars)
            for item_id, time, stars in shown.ratings
        ],
        searches=[pb.Search(query=query, event_time=_timestamp(time)) for query, time in shown.searches],
        visits=[
            pb.Visit(start_time=_timestamp(visit.start), end_time=_timestamp(visit.end), events=visit.events)
            for visit in shown.visits
        ],
        prices=None if shown.prices is None else pb.PriceAffinity(**shown.prices._asdict()),
    )


def _count(count: EventCount) -> pb.EventCount:
    return pb.EventCount(
        type=TYPES[count.type],
        total=count.total,
        last_day=count.last_day,
        last_week=count.last_week,
        last_month=count.last_month,
        decayed=count.decayed,
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
