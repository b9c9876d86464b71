"""Changes of profiles: requests to changes, and the bytes that the log keeps of an event or a change."""

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import attribute_pb2, change_pb2, event_pb2
from tidings.v1 import profile_service_pb2 as pb
from tidings_core.changes import AttributeValue, Change, Logged, Merge, Said, TagMove, TagSetting, Update, What
from tidings_core.declared import UserKind
from tidings_core.errors import StorageFailed
from tidings_core.faults import Fault
from tidings_server.transport.events import decode_event
from tidings_server.transport.preferences import fill_preferences, read_preferences

_MOST = 1000
"""Names looked at of a list that is too long anyway."""


def encode_change(change: Change) -> bytes:
    """What the log keeps of a change: an encoded tidings.v1.Event without a type."""
    message = event_pb2.Event(event_id=change.event_id, user_id=change.user_id, event_time=stamp(change.time))
    match change.what:
        case Update() as update:
            message.change.update.CopyFrom(_update(update))
        case TagMove(tag, entered):
            message.change.tag_move.CopyFrom(change_pb2.TagMove(tag=tag, entered=entered))
        case Said(words):
            # Also when nothing was said but that somebody came back: without it nobody could tell what this entry is.
            message.change.preferences.SetInParent()
            fill_preferences(message.change.preferences, words)
        case Merge(visitor_id):
            message.change.merge.CopyFrom(change_pb2.Merge(visitor_id=visitor_id))
    return message.SerializeToString(deterministic=True)


def decode_logged(content: bytes) -> Logged:
    """The event or change that the log kept. Raises StorageFailed when it is damaged."""
    try:
        message = event_pb2.Event.FromString(content)
    except DecodeError as error:
        raise StorageFailed(f"an entry of the log is damaged: {error}") from error
    if not message.HasField("change"):
        return decode_event(content)
    match message.change.WhichOneof("what"):
        case "update":
            what: What = _read_update(message.change.update)
        case "tag_move":
            what = TagMove(message.change.tag_move.tag, message.change.tag_move.entered)
        case "preferences":
            words, faults = read_preferences(message.change.preferences)
            if faults:
                raise StorageFailed(f"a change of the log is damaged: {faults[0][0]} {faults[0][1]}")
            what = Said(words)
        case "merge":
            what = Merge(message.change.merge.visitor_id)
        case _:
            raise StorageFailed("a change of the log is damaged: it says nothing that this version knows")
    return Change(message.event_id, message.user_id, milliseconds(message.event_time), what)


def read_update(request: pb.UpdateProfileRequest, now_ms: int) -> tuple[Change, list[Fault]]:
    """The change in a request, and what cannot be meant by it. A request without a time is of `now_ms`."""
    faults = [*_twice("attributes", [*request.attributes, *request.remove_attributes])]
    faults += _twice("tags", [*(tag.tag for tag in request.tags), *request.remove_tags])
    faults += [
        (f"attributes[{name!r:.80}]", "has no value: set exactly one")
        for name, value in request.attributes.items()
        if value.WhichOneof("value") is None
    ]
    moment = milliseconds(request.event_time) if request.HasField("event_time") else now_ms
    update = Update(
        attributes={
            # One without a value has its fault, and is none of a wrong kind besides.
            **{n: read_value(value) if value.WhichOneof("value") else None for n, value in request.attributes.items()},
            **dict.fromkeys(request.remove_attributes),
        },
        tags={**{tag.tag: _setting(tag) for tag in request.tags}, **dict.fromkeys(request.remove_tags)},
        source=request.source,
    )
    return Change(request.event_id, request.user_id, moment, update), faults


def _twice(field: str, names: list[str]) -> Iterable[Fault]:
    """The names that stand twice in what is to be set and removed."""
    seen: set[str] = set()
    for name in names[:_MOST]:
        if name in seen:
            yield f"{field}[{name!r:.80}]", "is named twice: set it or remove it, once"
        seen.add(name)


def read_value(value: attribute_pb2.AttributeValue) -> AttributeValue:
    """A value of an attribute; one that is none is ""."""
    match value.WhichOneof("value"):
        case "texts":
            return tuple(dict.fromkeys(value.texts.values))
        case "number":
            return value.number
        case "time":
            return value.time.seconds + value.time.nanos / 1e9
        case "flag":
            return value.flag
    return value.text


def fill_value(message: attribute_pb2.AttributeValue, kind: UserKind | None, value: AttributeValue) -> None:
    """Set a message to a value of a kind; None when the attribute is not declared any more."""
    match value:
        case bool():
            message.flag = value
        case str():
            message.text = value
        case tuple():
            message.texts.values.extend(value)
        case _ if kind == "time":
            message.time.FromMicroseconds(round(value * 1e6))
        case _:
            message.number = value


def stamp(time: int) -> Timestamp:
    """A timestamp of Unix milliseconds."""
    return Timestamp(seconds=time // 1000, nanos=time % 1000 * 1_000_000)


def milliseconds(message: Timestamp) -> int:
    """Unix milliseconds of a timestamp."""
    return message.seconds * 1000 + message.nanos // 1_000_000


def _setting(message: change_pb2.TagSetting) -> TagSetting:
    # An end that was before 1970 is one that has come, not one that never does.
    expires = (milliseconds(message.expire_time) or 1) if message.HasField("expire_time") else 0
    return TagSetting(message.weight if message.HasField("weight") else 1.0, expires)


def _update(update: Update) -> change_pb2.ProfileUpdate:
    message = change_pb2.ProfileUpdate(
        removed_attributes=[name for name, value in update.attributes.items() if value is None],
        removed_tags=[name for name, setting in update.tags.items() if setting is None],
        source=update.source,
    )
    for name, value in update.attributes.items():
        if value is not None:
            # A time is kept as its number: what an attribute is, the settings say.
            fill_value(message.attributes[name], None, value)
    for name, setting in update.tags.items():
        if setting is not None:
            message.tags.append(tag_setting(name, setting))
    return message


def tag_setting(name: str, setting: TagSetting) -> change_pb2.TagSetting:
    """The message of a tag that is set."""
    expires = stamp(setting.expires) if setting.expires else None
    return change_pb2.TagSetting(tag=name, weight=setting.weight, expire_time=expires)


def _read_update(message: change_pb2.ProfileUpdate) -> Update:
    attributes: Mapping[str, AttributeValue] = {name: read_value(value) for name, value in message.attributes.items()}
    return Update(
        {**attributes, **dict.fromkeys(message.removed_attributes)},
        {**{tag.tag: _setting(tag) for tag in message.tags}, **dict.fromkeys(message.removed_tags)},
        message.source,
    )
