"""Between the client's filters and the wire."""

from collections.abc import Sequence
from datetime import datetime

from tidings import wire
from tidings.filters import Condition, Filter
from tidings.v1 import filter_pb2

_BOUNDS = ("gte", "gt", "lte", "lt")
_TESTS = ("any_of", "all_of", "flag")
# As the server's own limit; a filter that holds itself would have no end.
_MOST_NESTED = 4


def filter_message(wanted: Filter, at: str, depth: int = 1) -> filter_pb2.Filter:
    """Return the message of a filter; raises InvalidArgument naming the place, after `at`, of what does not fit."""
    if not isinstance(wanted, Filter):
        raise wire.unfit(at, wanted, "a tidings.Filter is wanted")
    if depth > _MOST_NESTED:
        raise wire.invalid(at, f"is more than {_MOST_NESTED} filters deep")
    if wanted.should is not None and not len(wanted.should):
        raise wire.invalid(f"{at}.should", "is empty, and of nothing none can be met; leave it out or name a condition")
    message = filter_pb2.Filter()
    for clause in ("must", "should", "must_not"):
        conditions: Sequence[Condition | Filter] = getattr(wanted, clause) or ()
        if isinstance(conditions, Condition | Filter):
            raise wire.unfit(f"{at}.{clause}", conditions, "a list is wanted, not one condition")
        for place, condition in enumerate(conditions):
            getattr(message, clause).append(_condition(condition, f"{at}.{clause}[{place}]", depth))
    return message


def _condition(condition: Condition | Filter, at: str, depth: int) -> filter_pb2.Condition:
    message = filter_pb2.Condition()
    if isinstance(condition, Filter):
        message.filter.CopyFrom(filter_message(condition, f"{at}.filter", depth + 1))
        return message
    if not isinstance(condition, Condition):
        raise wire.unfit(at, condition, "a condition is wanted, such as tidings.any_of(...), or a filter")
    wire.fill(message, "attribute", condition.attribute, f"{at}.")
    bounds = {name: getattr(condition, name) for name in _BOUNDS if getattr(condition, name) is not None}
    tests = [name for name in _TESTS if getattr(condition, name) is not None]
    if len(tests) + bool(bounds) != 1:
        raise wire.invalid(at, "must ask one thing: any_of, all_of, bounds, or a flag")
    if condition.flag is not None:
        wire.fill(message, "flag", condition.flag, f"{at}.")
    elif bounds:
        _fill_bounds(message, bounds, at)
    else:
        (test,) = tests
        texts = getattr(message, test)
        texts.SetInParent()
        try:
            wire.fill_ids(texts, "values", getattr(condition, test))
        except ValueError as error:
            raise wire.unfit(f"{at}.{test}", getattr(condition, test), "a list of texts is wanted") from error
    return message


def _fill_bounds(message: filter_pb2.Condition, bounds: dict[str, float | datetime], at: str) -> None:
    times = [isinstance(bound, datetime) for bound in bounds.values()]
    if any(times) and not all(times):
        raise wire.invalid(at, "compares with a number and a time; give two of one kind")
    for name, bound in bounds.items():
        if isinstance(bound, datetime):
            wire.fill_time(message.time, name, bound, f"{at}.time.")
        else:
            wire.fill(message.number, name, bound, f"{at}.number.")
