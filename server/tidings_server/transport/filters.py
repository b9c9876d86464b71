"""Filters: from messages to values, every fault named by its place."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import filter_pb2 as pb
from tidings_core.faults import Fault
from tidings_core.filters import MAX_DEPTH, AllOf, AnyOf, Condition, Filter, Is, Range, faults

BOUNDS = ("gte", "gt", "lte", "lt")
TESTS = ("any_of", "all_of", "number", "time", "flag", "filter")
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, in Unix seconds."""


def decode_filter(message: pb.Filter) -> tuple[Filter, Sequence[Fault]]:
    """The filter of a message, and what is wrong with it by itself; when something is, the filter means nothing."""
    found: list[Fault] = []
    wanted = _filter(message, "", 1, found)
    return wanted, found or faults(wanted)


def _filter(message: pb.Filter, at: str, depth: int, found: list[Fault]) -> Filter:
    if depth > MAX_DEPTH:
        found.append((at, f"is more than {MAX_DEPTH} filters deep"))
        return Filter()

    def conditions(clause: str) -> tuple[Condition, ...]:
        places = enumerate(getattr(message, clause))
        return tuple(
            _condition(one, f"{at}{'.' if at else ''}{clause}[{place}]", depth, found) for place, one in places
        )

    return Filter(conditions("must"), conditions("should") or None, conditions("must_not"))


def _condition(message: pb.Condition, at: str, depth: int, found: list[Fault]) -> Condition:
    attribute = message.attribute
    match message.WhichOneof("test"):
        case "any_of":
            return AnyOf(attribute, tuple(message.any_of.values))
        case "all_of":
            return AllOf(attribute, tuple(message.all_of.values))
        case "number":
            given = {name: getattr(message.number, name) for name in BOUNDS if message.number.HasField(name)}
            return Range(attribute, "number", **given)
        case "time":
            return Range(attribute, "time", **_times(message.time, f"{at}.time", found))
        case "flag":
            return Is(attribute, message.flag)
        case "filter":
            if attribute:
                found.append((f"{at}.attribute", "stands beside a filter; leave it out"))
            return _filter(message.filter, f"{at}.filter", depth + 1, found)
    found.append((at, f"asks nothing; give one of {', '.join(TESTS)}"))
    return Filter()


def _times(message: pb.TimeRange, at: str, found: list[Fault]) -> dict[str, float]:
    times = {}
    for name in BOUNDS:
        if message.HasField(name):
            moment: Timestamp = getattr(message, name)
            if not (_FIRST <= moment.seconds <= _LAST and 0 <= moment.nanos < 1_000_000_000):
                found.append((f"{at}.{name}", "is no time of the years 1 to 9999"))
            times[name] = moment.seconds + moment.nanos / 1e9
    return times
