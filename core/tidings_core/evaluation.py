"""What a tag expression is worth for a user at a moment, and until when it is so if nothing happens."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from tidings_core.events import EventType
from tidings_core.expressions import Binary, Call, Expression, Literal, Name, Node, Not, Several
from tidings_core.tag_view import FOREVER, UNKNOWN, Seen, View

HasTag = Callable[[str], Seen]
"""Whether the user has a tag, or any of a family."""
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_SLACK = 1e-3
"""Milliseconds. Two numbers are looked at again so much before they meet: too early does no harm."""
_FAR = 1e15
"""Milliseconds. What happens in so long, 30,000 years, is for nobody to wait for."""


def evaluate(expression: Expression, view: View, has_tag: HasTag, variable: Mapping[str, str]) -> Seen:
    """What an expression is worth. `variable` is what a family of tags goes through, by name.

    A value that is not known makes everything unknown that is computed from it; a flag that is not known does not hold.
    """
    return _Evaluation(view, has_tag, variable).of(expression.root)


class _Evaluation:
    def __init__(self, view: View, has_tag: HasTag, variable: Mapping[str, str]) -> None:
        self._view = view
        self._has_tag = has_tag
        self._variable = variable

    def of(self, node: Node) -> Seen:
        match node:
            case Literal():
                return Seen(node.value)
            case Name():
                return Seen(self._variable[node.name] if node.name in self._variable else self._attribute(node.name))
            case Not():
                inner = self.of(node.part)
                return Seen(inner.value is not True, inner.until)
            case Several():
                return self._several(node)
            case Binary():
                return self._binary(node)
            case Call():
                return _FUNCTIONS[node.function](self, node)

    def _attribute(self, name: str) -> Any:
        return self._view.attribute(name)

    def _several(self, node: Several) -> Seen:
        decides = node.word == "or"
        until = FOREVER
        for part in node.parts:
            seen = self.of(part)
            if (seen.value is True) == decides:
                # As long as this part is so, the others do not matter.
                return Seen(decides, seen.until)
            until = min(until, seen.until)
        return Seen(not decides, until)

    def _binary(self, node: Binary) -> Seen:
        left, right = self.of(node.left), self.of(node.right)
        until = min(left.until, right.until)
        if left.value is None or right.value is None:
            flag = node.operator in _COMPARE or node.operator in ("in", "not in")
            return Seen(False if flag else None, until)
        if node.operator in ("in", "not in"):
            return Seen((left.value in right.value) == (node.operator == "in"), until)
        if node.operator in _COMPARE:
            holds = _COMPARE[node.operator](left.value, right.value)
            return Seen(bool(holds), min(until, self._meeting(left, right)))
        return self._arithmetic(node.operator, left, right, until)

    def _arithmetic(self, sign: str, left: Seen, right: Seen, until: float) -> Seen:
        a, b = left.value, right.value
        match sign:
            case "+":
                return _number(a + b, until, left.rate + right.rate)
            case "-":
                return _number(a - b, until, left.rate - right.rate)
            case "*":
                # Of the two one at most grows: see `tag_functions.check_growth`.
                return _number(a * b, until, left.rate * b + right.rate * a)
        return Seen(None, until) if b == 0 else _number(a / b, until, left.rate / b)

    def _meeting(self, left: Seen, right: Seen) -> float:
        """The moment at which two numbers are next equal; FOREVER for what does not move, or not in `_FAR`."""
        rate = left.rate - right.rate
        if not rate:
            return FOREVER
        ahead = -(left.value - right.value) / rate
        return self._view.now + max(1, math.ceil(ahead - _SLACK)) if 0 <= ahead <= _FAR else FOREVER

    def count(self, call: Call) -> Seen:
        return self._view.count(_type(call.arguments[0]), _days(call))

    def spent(self, call: Call) -> Seen:
        return self._view.spent(_days(call))

    def orders(self, call: Call) -> Seen:
        return self._view.orders(_days(call))

    def days_since(self, call: Call) -> Seen:
        if call.arguments and call.arguments[0].kind == "moment":
            moment = self.of(call.arguments[0])
            since = self._view.days_since(moment.value)
            return Seen(since.value, moment.until, since.rate)
        return self._view.days_since(self._view.last(_type(call.arguments[0]) if call.arguments else None))

    def days_since_first(self, call: Call) -> Seen:
        return self._view.days_since(self._view.first(_type(call.arguments[0]) if call.arguments else None))

    def bought(self, call: Call) -> Seen:
        name = next((name for name in ("category", "brand") if name in call.named), None)
        value = None if name is None else self.of(call.named[name]).value
        if name is not None and value is None:
            return UNKNOWN
        return self._view.bought(name, value, _days(call))

    def affinity(self, call: Call) -> Seen:
        name = "brand" if "brand" in call.named else "category"
        value = self.of(call.named[name] if call.named else call.arguments[0]).value
        return UNKNOWN if value is None else self._view.affinity(name, value)

    def price_rank(self, call: Call) -> Seen:  # noqa: ARG002 - every function takes its call
        return self._view.price_rank()

    def years_since(self, call: Call) -> Seen:
        moment = self.of(call.arguments[0])
        today, day = _day(self._view.now), _day(moment.value)
        if today is None or day is None:
            return Seen(None, moment.until)
        if day > today:
            return Seen(None, min(moment.until, _midnight(day)))
        next_one = _anniversary(day, today + timedelta(days=1))
        passed = (today.month, today.day) >= (day.month, day.day)
        until = FOREVER if next_one is None else _midnight(next_one)
        return Seen(float(today.year - day.year - (not passed)), min(moment.until, until))

    def days_to_anniversary(self, call: Call) -> Seen:
        moment = self.of(call.arguments[0])
        today, day = _day(self._view.now), _day(moment.value)
        next_one = None if today is None or day is None else _anniversary(day, today)
        if today is None or next_one is None:
            return Seen(None, moment.until)
        return Seen(float((next_one - today).days), min(moment.until, _midnight(today + timedelta(days=1))))

    def has_tag(self, call: Call) -> Seen:
        (name,) = call.arguments
        return self._has_tag(str(cast(Literal, name).value))

    def known(self, call: Call) -> Seen:
        seen = self.of(call.arguments[0])
        return Seen(seen.value is not None, seen.until)

    def coalesce(self, call: Call) -> Seen:
        until = FOREVER
        for argument in call.arguments:
            seen = self.of(argument)
            until = min(until, seen.until)
            if seen.value is not None:
                return Seen(seen.value, until, seen.rate)
        return Seen(None, until)

    def choose(self, call: Call) -> Seen:
        until = FOREVER
        *pairs, otherwise = call.arguments
        for flag, value in zip(pairs[::2], pairs[1::2], strict=True):
            seen = self.of(flag)
            until = min(until, seen.until)
            if seen.value is True:
                otherwise = value
                break
        chosen = self.of(otherwise)
        return Seen(chosen.value, min(until, chosen.until), chosen.rate)

    def band(self, call: Call) -> Seen:
        number = self.of(call.arguments[0])
        if number.value is None:
            return Seen(None, number.until)
        edges = [float(cast(float, cast(Literal, edge).value)) for edge in call.arguments[1:]]
        meetings = (self._meeting(number, Seen(edge)) for edge in edges)
        return Seen(band_of(number.value, edges), min(number.until, *meetings))

    def least(self, call: Call) -> Seen:
        return self._chosen(min, call.arguments)

    def most(self, call: Call) -> Seen:
        return self._chosen(max, call.arguments)

    def size(self, call: Call) -> Seen:
        seen = self.of(call.arguments[0])
        return Seen(None if seen.value is None else float(len(seen.value)), seen.until)

    def _chosen(self, choice: Callable[..., Seen], arguments: Iterable[Node]) -> Seen:
        given = [self.of(argument) for argument in arguments]
        known = [seen for seen in given if seen.value is not None]
        until = min(seen.until for seen in given)
        if not known:
            return Seen(None, until)
        chosen = choice(known, key=lambda seen: seen.value)
        # Which of them it is may change where two of them meet.
        meetings = (self._meeting(chosen, other) for other in known if other is not chosen)
        return Seen(chosen.value, min([until, *meetings]), chosen.rate)


_FUNCTIONS: Mapping[str, Callable[[_Evaluation, Call], Seen]] = {
    name: getattr(_Evaluation, name)
    for name in (
        "count", "days_since", "days_since_first", "spent", "orders", "bought", "affinity", "price_rank", "years_since",
        "days_to_anniversary", "has_tag", "known", "coalesce", "choose", "band", "least", "most", "size",
    )
}  # fmt: skip


def band_of(number: float, edges: list[float]) -> str:
    """The band that a number lies in: "under-18", "18-24" (of whole edges 18 and 25) or "65+"."""
    if number < edges[0]:
        return f"under-{edges[0]:g}"
    for low, high in pairwise(edges):
        if number < high:
            whole = low.is_integer() and high.is_integer()
            return f"{low:g}-{high - 1 if whole else high:g}"
    return f"{edges[-1]:g}+"


def _number(value: float, until: float, rate: float = 0.0) -> Seen:
    """A number that was computed; none when it went beyond all bounds."""
    return Seen(value, until, rate) if math.isfinite(value) and math.isfinite(rate) else Seen(None, until)


def _type(node: Node) -> EventType:
    return cast(EventType, cast(Literal, node).value)


def _days(call: Call) -> int | None:
    days = call.named.get("days")
    return None if days is None else int(cast(float, cast(Literal, days).value))


def _day(moment: float | None) -> date | None:
    """The day of a moment (Unix milliseconds) in UTC; None for one beyond the calendar."""
    try:
        return None if moment is None else datetime.fromtimestamp(moment / 1000, UTC).date()
    except (ValueError, OverflowError):
        return None


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000


def _anniversary(day: date, today: date) -> date | None:
    """The first anniversary of a day that is not before `today`; of 29 February that is 1 March where there is none."""
    for year in (today.year, today.year + 1):
        if year > date.max.year:
            break
        try:
            found = day.replace(year=year)
        except ValueError:
            found = date(year, 3, 1)
        if found >= today:
            return found
    return None
