"""What the `tidings` commands about a person's rights do: preferences, export, erasure."""

import argparse
import json
import sys

from tidings import commands, model_privacy, show
from tidings.client import Client

_WORDS = {"yes": True, "no": False, "default": None}


def set_preferences(connection: Client, arguments: argparse.Namespace) -> int:
    """Say what a person said."""
    hours = None
    if arguments.quiet is not None:
        hours = _hours(arguments)
    said = model_privacy.Preferences(
        channels=_choices(arguments, "channel"),
        topics=_choices(arguments, "topic"),
        consent=_choices(arguments, "consent"),
        quiet_hours=hours,
        max_per_day=arguments.max_per_day,
    )
    done = connection.set_preferences(
        arguments.user, said, event_id=arguments.event_id, lift_erasure=arguments.lift_erasure
    )
    commands.say(arguments, done, show.updated)
    return 0


def export_profile(connection: Client, arguments: argparse.Namespace) -> int:
    """Print everything that is kept of a person, as JSON lines."""
    for line in connection.export_profile(arguments.user, timeout=arguments.timeout):
        print(json.dumps(line, ensure_ascii=(sys.stdout.encoding or "").lower() != "utf-8"), flush=True)
    return 0


def erase_profile(connection: Client, arguments: argparse.Namespace) -> int:
    """Erase a person and print the receipt."""
    if not arguments.yes:
        arguments.refuse("it cannot be undone: say so with --yes")
    commands.say(arguments, connection.erase_profile(arguments.user, timeout=arguments.timeout), show.erased)
    return 0


def _choices(arguments: argparse.Namespace, option: str) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {}
    for name, word in getattr(arguments, option):
        if word not in _WORDS:
            arguments.refuse(f"--{option} {name}={word}: yes, no or default is wanted")
        found[name] = _WORDS[word]
    return found


def _hours(arguments: argparse.Namespace) -> model_privacy.QuietHours:
    """The quiet hours of ZONE and DAY=HH:MM-HH:MM parts."""
    if arguments.quiet == []:
        return model_privacy.QuietHours()
    zone, *spans = arguments.quiet
    found = []
    for span in spans:
        day, _, times = span.partition("=")
        start, _, end = times.partition("-")
        days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun") if day == "daily" else (day,)
        found += [model_privacy.QuietSpan(each, start, end) for each in days]
    return model_privacy.QuietHours(zone, tuple(found))
