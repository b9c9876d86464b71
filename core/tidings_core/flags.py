"""Flags: why an event of the log counts for nothing."""

from enum import IntFlag


class Flag(IntFlag):
    """Why an event that stands in the log is no part of profiles, trends, training or exports; 0 for one that is.

    The values are stored, so they never change. `BOT`: no person did it. `TEST`: the shop tried itself out.
    `CANCELLED`: an order that was called off later. `FLOOD`: more than a person can do in the time. `NO_CONSENT`: the
    user had not agreed to be remembered when it happened.
    """

    BOT = 1
    TEST = 2
    CANCELLED = 4
    FLOOD = 8
    NO_CONSENT = 16


GOOD = Flag(0)
"""The flags of an event that counts."""
