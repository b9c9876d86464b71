"""Whether a person may be pushed something now: consent and age, then what they said about where, what and when."""

from typing import Literal

from tidings_core.preferences import Channel
from tidings_core.privacy import PrivacyRules, standing_of
from tidings_core.profile import Profile
from tidings_core.quiet_hours import quiet_until

Held = Literal["", "NO_CONSENT", "MINOR", "CHANNEL_OFF", "TOPIC_OFF", "QUIET_HOURS"]
"""Why not; "": they may."""


def push_bar(
    profile: Profile,
    rules: PrivacyRules,
    now: int,
    topic: str = "",
    asked_for: bool = False,
    channel: Channel = "stream",
) -> Held:
    """What is in the way of a push on a topic ("": none in particular) at `now` (Unix milliseconds).

    A push that was `asked_for`, such as word of an order, is no marketing, and comes also in quiet hours.
    """
    preferences = profile.preferences
    if not asked_for:
        bar = standing_of(profile, rules).bar("push", now)
        if bar:
            return "MINOR" if bar == "minor" else "NO_CONSENT"
    if not preferences.channel(channel):
        return "CHANNEL_OFF"
    if topic and not preferences.topic(topic):
        return "TOPIC_OFF"
    return "QUIET_HOURS" if not asked_for and quiet_end(profile, now) else ""


def quiet_end(profile: Profile, now: int) -> int:
    """When the quiet hours end that hold at `now`, 0 when none do (Unix milliseconds)."""
    hours = profile.preferences.quiet_hours
    return 0 if hours is None else quiet_until(hours, now) or 0
