"""Between the client's values and the wire: profiles."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from tidings import model, model_profile, wire, wire_attributes, wire_contacts, wire_privacy
from tidings.v1 import profile_service_pb2
from tidings.wire_events import event_type


def profile_request(user_id: str, consistency_token: str) -> profile_service_pb2.GetProfileRequest:
    """Return the request for a profile."""
    request = profile_service_pb2.GetProfileRequest()
    wire.fill(request, "user_id", user_id)
    wire.fill(request, "consistency_token", consistency_token)
    return request


def profile(response: profile_service_pb2.GetProfileResponse) -> model_profile.Profile:
    """Return a profile."""
    message = response.profile
    return model_profile.Profile(
        user_id=message.user_id,
        version=message.version,
        first_event_time=wire.time_of(message, "first_event_time"),
        last_event_time=wire.time_of(message, "last_event_time"),
        counts=tuple(
            model_profile.EventCount(
                event_type(count.type),
                count.total,
                count.last_day,
                count.last_week,
                count.last_month,
                count.decayed,
            )
            for count in message.counts
        ),
        recent_events=tuple(_recent_event(event) for event in message.recent_events),
        bought_items=tuple(
            model_profile.BoughtItem(item.item_id, wire.time_of(item, "last_time"), item.purchases, item.returns)
            for item in message.bought_items
        ),
        bought_item_count=message.bought_item_count,
        blocked_item_ids=tuple(message.blocked_item_ids),
        blocked_categories=tuple(message.blocked_categories),
        categories=tuple(model_profile.Affinity(affinity.value, affinity.share) for affinity in message.categories),
        brands=tuple(model_profile.Affinity(affinity.value, affinity.share) for affinity in message.brands),
        known_to_release=message.known_to_release,
        spent=message.spent,
        attributes=tuple(
            model_profile.ProfileAttribute(
                one.name, wire_attributes.value(one.value), one.source, wire.time_of(one, "since")
            )
            for one in message.attributes
        ),
        tags=tuple(
            model_profile.ProfileTag(
                one.tag, one.weight, one.source, wire.time_of(one, "since"), wire.time_of(one, "expire_time")
            )
            for one in message.tags
        ),
        ratings=tuple(
            model_profile.Rating(one.item_id, wire.time_of(one, "event_time"), one.stars) for one in message.ratings
        ),
        searches=tuple(model_profile.Search(one.query, wire.time_of(one, "event_time")) for one in message.searches),
        visits=tuple(
            model_profile.Visit(wire.time_of(one, "start_time"), wire.time_of(one, "end_time"), one.events)
            for one in message.visits
        ),
        prices=model_profile.PriceAffinity(message.prices.low, message.prices.middle, message.prices.high)
        if message.HasField("prices")
        else None,
        contacts=tuple(wire_contacts.known(one) for one in message.contacts),
        preferences=wire_privacy.preferences(message.preferences),
    )


def update_request(
    user_id: str,
    attributes: Mapping[str, model.AttributeValue | None],
    tags: Iterable[str | model_profile.TagSetting],
    remove_tags: Iterable[str],
    source: str,
    event_time: datetime | None,
    event_id: str,
) -> profile_service_pb2.UpdateProfileRequest:
    """Return the request to update a profile; raises InvalidArgument with all the fields that cannot be sent."""
    request = profile_service_pb2.UpdateProfileRequest()
    for field, text in (("user_id", user_id), ("source", source), ("event_id", event_id)):
        wire.fill(request, field, text)
    wire.fill_time(request, "event_time", event_time)
    if not isinstance(attributes, Mapping):
        raise wire.unfit("attributes", attributes, "a mapping of names to values is wanted")
    for name, value in attributes.items():
        if value is None:
            request.remove_attributes.append(name)
        else:
            wire_attributes.fill(request.attributes, name, value, f"attributes[{name}]")
    for field, given in (("tags", tags), ("remove_tags", remove_tags)):
        # A text is a sequence of texts too: it would go out as one tag per letter.
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise wire.unfit(field, given, "a list of tags is wanted")
    for at, tag in enumerate(tags):
        setting = tag if isinstance(tag, model_profile.TagSetting) else model_profile.TagSetting(tag)
        message = request.tags.add()
        wire.fill(message, "tag", setting.tag, f"tags[{at}].")
        wire.fill(message, "weight", setting.weight, f"tags[{at}].")
        wire.fill_time(message, "expire_time", setting.expire_time, f"tags[{at}].")
    try:
        request.remove_tags.extend(remove_tags)
    except (TypeError, ValueError) as error:
        raise wire.unfit("remove_tags", remove_tags, str(error)) from error
    return request


def updated(message: profile_service_pb2.UpdateProfileResponse) -> model_profile.Updated:
    """Return what became of an update."""
    return model_profile.Updated(message.duplicate, message.consistency_token)


def merge_request(visitor_id: str, user_id: str) -> profile_service_pb2.MergeProfilesRequest:
    """Return the request to make two ids one person."""
    request = profile_service_pb2.MergeProfilesRequest()
    wire.fill(request, "visitor_id", visitor_id)
    wire.fill(request, "user_id", user_id)
    return request


def merged(message: profile_service_pb2.MergeProfilesResponse) -> model_profile.Merged:
    """Return what became of a merge."""
    return model_profile.Merged(message.user_id, message.already, message.consistency_token)


def _recent_event(message: profile_service_pb2.RecentEvent) -> model_profile.RecentEvent:
    return model_profile.RecentEvent(
        type=event_type(message.type),
        event_time=wire.time_of(message, "event_time"),
        item_ids=tuple(message.item_ids),
        category=message.category,
        query=message.query,
        value=message.value if message.HasField("value") else None,
    )
