"""What a trigger leaves behind in the transaction of its event: a timer that calls for a decision."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tidings_core.errors import StorageFailed
from tidings_core.events import Event, EventItem
from tidings_core.stored import Timer

PREFIX = "trigger/"


@dataclass(frozen=True, slots=True)
class PushTimer:
    """The trigger that fired, by name, and the event that made it fire."""

    trigger: str
    event: Event

    @property
    def key(self) -> str:
        """Name of the timer, and of the decision that it leads to: one for each trigger and event."""
        return f"{PREFIX}{self.trigger}/{self.event.event_id}"

    def timer(self, due: int) -> Timer:
        """The timer to set, due at `due` (Unix milliseconds)."""
        fields = {"trigger": self.trigger, "event": asdict(self.event)}
        content = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return Timer(self.key, due, self.event.user_id, content.encode())

    @classmethod
    def read(cls, timer: Timer) -> "PushTimer":
        """The inverse of `timer`. Raises StorageFailed when the content is damaged."""
        try:
            fields: dict[str, Any] = json.loads(timer.content)
            event = fields["event"]
            items = tuple(EventItem(**item) for item in event.pop("items"))
            return cls(fields["trigger"], Event(**event, items=items))
        except (ValueError, KeyError, TypeError) as error:
            raise StorageFailed("a timer is damaged: what it calls for cannot be read") from error
