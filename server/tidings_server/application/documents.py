"""A user's document: everything about one user that must change together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tidings_core import profile
from tidings_core.errors import StorageFailed
from tidings_core.profile import Profile
from tidings_core.profile_json import from_json
from tidings_core.stored import Document

FORMAT = 1
MAX_DEVICES = 16
"""So many devices of a user are remembered, those heard of last."""
MAX_PUSHED_ITEMS = 64
"""So many of the items pushed last are remembered, so as not to push one again soon."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class UserDocument:
    """Profile, push state and how far the log is folded in. Times are Unix milliseconds. The dicts are shared.

    `applied_through` is the number of the newest event in `profile`. `newest_offset` is the offset taken last;
    `lost_through` the largest offset that was dropped because the stream was full; `acknowledged` the largest offset
    any device acknowledged; `devices` maps a device to its acknowledged offset and when. `push_times` are those of the
    last 24 hours; `fired` maps a trigger to when it last led to a push; `pushed_items` are the ids pushed last,
    newest last. `erased_through` is when the user was erased, who has come back since: what was done up to then stays
    unknown. 0: never.
    """

    profile: Profile = profile.EMPTY
    applied_through: int = 0
    newest_offset: int = 0
    lost_through: int = 0
    acknowledged: int = 0
    devices: dict[str, tuple[int, int]] = field(default_factory=dict)
    push_times: tuple[int, ...] = ()
    fired: dict[str, int] = field(default_factory=dict)
    pushed_items: tuple[str, ...] = ()
    erased_through: int = 0

    def pushes_in_a_day(self, now: int) -> int:
        """How many pushes were sent in the 24 hours before `now`."""
        return sum(time > now - DAY_MS for time in self.push_times)

    def with_push(self, offset: int, now: int, item_ids: tuple[str, ...]) -> "UserDocument":
        """The document after a push took an offset."""
        times = tuple(time for time in self.push_times if time > now - DAY_MS)
        kept = tuple(item for item in self.pushed_items if item not in item_ids)
        return replace(
            self,
            newest_offset=offset,
            push_times=(*times, now),
            pushed_items=(*kept, *item_ids)[-MAX_PUSHED_ITEMS:],
        )

    def with_acknowledged(self, device: str, offset: int, now: int) -> "UserDocument":
        """The document after a device acknowledged everything up to an offset."""
        before = self.devices.get(device, (0, 0))[0]
        devices = {**self.devices, device: (max(before, offset), now)}
        newest = sorted(devices.items(), key=lambda entry: (entry[1][1], entry[0]))[-MAX_DEVICES:]
        return replace(self, devices=dict(newest), acknowledged=max(self.acknowledged, offset))

    def joined(self, other: "UserDocument") -> "UserDocument":
        """The document after another id was found to be the same person.

        The stream stays this one's, with its devices and offsets. What was pushed to either was pushed to the person:
        no cap, cooldown or memory of an item begins anew.
        """
        kept = tuple(item for item in other.pushed_items if item not in self.pushed_items)
        triggers = sorted({*self.fired, *other.fired})
        return replace(
            self,
            profile=profile.join(self.profile, other.profile),
            applied_through=max(self.applied_through, other.applied_through),
            push_times=tuple(sorted((*self.push_times, *other.push_times))),
            fired={name: max(self.fired.get(name, 0), other.fired.get(name, 0)) for name in triggers},
            pushed_items=(*kept, *self.pushed_items)[-MAX_PUSHED_ITEMS:],
            erased_through=max(self.erased_through, other.erased_through),
        )


def read_document(stored: Document) -> UserDocument:
    """The document in its stored form; an empty one when there is none. Raises StorageFailed when it is damaged."""
    if stored.version == 0:
        return UserDocument()
    try:
        fields, read_profile = _fields(stored.content)
        if fields["format"] != FORMAT:
            raise ValueError(f"it has format {fields['format']!r}; this version reads {FORMAT}")
        return UserDocument(
            profile=read_profile(fields["profile"]),
            applied_through=fields["applied_through"],
            newest_offset=fields["newest_offset"],
            lost_through=fields["lost_through"],
            acknowledged=fields["acknowledged"],
            devices={device: (offset, time) for device, (offset, time) in fields["devices"].items()},
            push_times=tuple(fields["push_times"]),
            fired=fields["fired"],
            pushed_items=tuple(fields["pushed_items"]),
            erased_through=fields.get("erased_through", 0),
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, msgspec.DecodeError) as error:
        raise StorageFailed(f"a user's document is damaged: {error}") from error


def _fields(content: bytes) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Profile]]:
    """What a document is made of, and how its profile is read: the first ones were written in JSON."""
    if content.startswith(b"{"):
        return msgspec.json.decode(content), from_json
    return msgspec.msgpack.decode(content), profile.from_values


def write_document(document: UserDocument) -> bytes:
    """The stored form, byte for byte the same for equal documents."""
    fields = {
        "format": FORMAT,
        "profile": profile.to_values(document.profile),
        "applied_through": document.applied_through,
        "newest_offset": document.newest_offset,
        "lost_through": document.lost_through,
        "acknowledged": document.acknowledged,
        "devices": dict(sorted(document.devices.items())),
        "push_times": document.push_times,
        "fired": dict(sorted(document.fired.items())),
        "pushed_items": document.pushed_items,
        **({"erased_through": document.erased_through} if document.erased_through else {}),
    }
    return msgspec.msgpack.encode(fields)


def read_checkpoint(content: bytes) -> Profile:
    """What is left of the events of a user that were taken out of the log; an empty profile for b"".

    Raises StorageFailed when it is damaged.
    """
    if not content:
        return profile.EMPTY
    try:
        return profile.from_values(msgspec.msgpack.decode(content))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, msgspec.DecodeError) as error:
        raise StorageFailed(f"a checkpoint of the log is damaged: {error}") from error


def write_checkpoint(known: Profile) -> bytes:
    """The stored form of a checkpoint, byte for byte the same for equal ones."""
    return msgspec.msgpack.encode(profile.to_values(known))
