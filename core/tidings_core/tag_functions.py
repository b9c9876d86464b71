"""The functions of tag expressions: what each takes and gives, and which it is a fault to ask for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

from tidings_core.events import EVENT_TYPES, NEVER, EventType
from tidings_core.expressions import (
    Binary,
    Call,
    Expression,
    ExpressionFault,
    ExpressionKind,
    Literal,
    Node,
    as_moment,
    described,
    is_numbers,
)
from tidings_core.profile import DAYS

MAX_WINDOW = 3650
"""Days that a window may be long."""
_TOP = "number", "text", "texts", "flag", "moment"


@dataclass(frozen=True, slots=True)
class Function:
    """What a function takes and gives. `positional` and `named` map arguments to their kinds; `needed` come first.

    `says` is a line for people.
    """

    name: str
    positional: tuple[ExpressionKind, ...]
    needed: int
    named: Mapping[str, ExpressionKind]
    gives: ExpressionKind
    says: str


_WINDOW: Mapping[str, ExpressionKind] = {"days": "number"}
_OF: Mapping[str, ExpressionKind] = {"category": "text", "brand": "text"}
FUNCTIONS: Mapping[str, Function] = {
    one.name: one
    for one in (
        Function(
            "count", ("text",), 1, _WINDOW, "number", f"events of a type, ever or in the last days, {DAYS} at most"
        ),
        Function("days_since", ("text",), 0, {}, "number", "days since the last event of a type, or since a moment"),
        Function("days_since_first", ("text",), 0, {}, "number", "days since the first event of a type"),
        Function("spent", (), 0, _WINDOW, "number", "money spent less what came back, ever or in the last days"),
        Function("orders", (), 0, _WINDOW, "number", "purchases, ever or in the last days"),
        Function("bought", (), 0, {**_WINDOW, **_OF}, "number", "items bought and kept, of a category or brand"),
        Function("affinity", ("text",), 0, _OF, "number", "share of all interest, 0 to 1, in a category or brand"),
        Function("price_rank", (), 0, {}, "number", "0 to 1: how dear, within their categories, is what was bought"),
        Function("years_since", ("moment",), 1, {}, "number", "whole years since a day, such as an age"),
        Function("days_to_anniversary", ("moment",), 1, {}, "number", "whole days to the next anniversary of a day"),
        Function(
            "has_tag", ("text",), 1, {}, "flag", 'whether a tag is there: "vip", "lifecycle:new", or any "lifecycle"'
        ),
        Function("known", (), 1, {}, "flag", "whether a value is there"),
        Function("coalesce", (), 1, {}, "flag", "the first value that is there"),
        Function(
            "choose", (), 3, {}, "flag", "choose(flag, value, ..., otherwise): the value of the first flag that holds"
        ),
        Function("band", ("number",), 2, {}, "text", 'band(number, 18, 25, 35): "under-18", "18-24", "25-34" or "35+"'),
        Function("least", ("number",), 1, {}, "number", "the least of numbers"),
        Function("most", ("number",), 1, {}, "number", "the largest of numbers"),
        Function("size", ("texts",), 1, {}, "number", "how many texts there are"),
    )
}
_MANY = ("known", "coalesce", "choose", "band", "least", "most")
"""Those with a rule of their own for what they take."""


def resolve(call: Call) -> Call:
    """The call checked, with the kind that it gives. Raises ExpressionFault."""
    function = FUNCTIONS.get(call.function)
    if function is None:
        known = ", ".join(f"{name}()" for name in FUNCTIONS)
        raise ExpressionFault(call.at, f"calls {call.function}(), which is no function; known are {known}")
    for name, given in call.named.items():
        wanted = function.named.get(name)
        if wanted is None:
            known = ", ".join(function.named) or "none"
            raise ExpressionFault(given.at, f"gives {call.function}() {name}=; it takes {known}")
        _wants(given, wanted, f"{name}= of {call.function}()")
    if len(call.arguments) < function.needed:
        raise ExpressionFault(call.at, f"gives {call.function}() too little: {function.says}")
    if call.function in _MANY:
        return _of_many(call)
    if len(call.arguments) > len(function.positional):
        raise ExpressionFault(call.arguments[-1].at, f"gives {call.function}() too much: {function.says}")
    checked = _CHECKS.get(call.function)
    if checked is not None:
        call = checked(call)
    else:
        for given, wanted in zip(call.arguments, function.positional, strict=False):
            _wants(given, wanted, f"{call.function}()")
    _window_fits(call)
    return replace(call, kind=function.gives)


def check_growth(expression: Expression) -> None:
    """Refuse what makes of a number that grows with time one of which it cannot be told when it meets another.

    Raises ExpressionFault.
    """
    for node in expression.nodes:
        if not isinstance(node, Binary):
            continue
        left, right = _grows(node.left), _grows(node.right)
        if node.operator == "/" and right:
            raise ExpressionFault(node.right.at, "divides by days since something: compare the days themselves")
        if node.operator == "*" and left and right:
            raise ExpressionFault(node.at, "multiplies days since something with such days: compare them themselves")
        if node.operator in ("in", "not in") and left:
            raise ExpressionFault(node.at, "looks for days since something in a list: compare them with < and >")


def _grows(node: Node) -> bool:
    """Whether a part is a number that grows with time."""
    match node:
        case Call(function="days_since" | "days_since_first"):
            return True
        case Call(function="coalesce" | "least" | "most"):
            return any(map(_grows, node.arguments))
        case Call(function="choose"):
            return any(map(_grows, (*node.arguments[1::2], node.arguments[-1])))
        case Binary(operator="+" | "-" | "*" | "/"):
            return _grows(node.left) or _grows(node.right)
    return False


def reads_from(call: Call) -> Iterator[EventType]:
    """The types of events that a call goes by which may follow from a push."""
    if call.function in ("count", "days_since", "days_since_first") and call.arguments:
        type = call.arguments[0]
        if isinstance(type, Literal) and type.value in NEVER:
            yield type.value


def tag_of(call: Call) -> str | None:
    """The tag, or family of tags, that a call asks for; None for any other call."""
    if call.function != "has_tag":
        return None
    argument = call.arguments[0]
    assert isinstance(argument, Literal)
    return str(argument.value)


def _wants(given: Node, wanted: ExpressionKind, place: str) -> None:
    if given.kind != wanted or is_numbers(given):
        raise ExpressionFault(given.at, f"has {described(given)} in {place}, where a {wanted} should stand")


def _event_type(call: Call) -> Call:
    for given in call.arguments:
        if not isinstance(given, Literal) or given.value not in EVENT_TYPES:
            raise ExpressionFault(given.at, f"wants in {call.function}() one of {', '.join(EVENT_TYPES)}, in quotes")
    return call


def _since(call: Call) -> Call:
    if call.arguments and call.arguments[0].kind == "moment":
        return call
    return _event_type(call)


def _literal_text(call: Call) -> Call:
    (given,) = call.arguments
    if not isinstance(given, Literal) or not isinstance(given.value, str):
        raise ExpressionFault(
            given.at, f"wants a text in quotes in {call.function}(): what depends on what must be known"
        )
    return call


def _one_of(call: Call) -> Call:
    given = [*call.arguments, *(call.named[name] for name in _OF if name in call.named)]
    for one in given:
        _wants(one, "text", f"{call.function}()")
    if len(given) > 1 or (call.function == "affinity" and not given):
        raise ExpressionFault(call.at, f"wants one of category= and brand= in {call.function}()")
    return call


_CHECKS: Mapping[str, Callable[[Call], Call]] = {
    "count": _event_type,
    "days_since": _since,
    "days_since_first": _event_type,
    "has_tag": _literal_text,
    "affinity": _one_of,
    "bought": _one_of,
}


def _window_fits(call: Call) -> None:
    days = call.named.get("days")
    if days is None:
        return
    most = DAYS if call.function == "count" else MAX_WINDOW
    whole = isinstance(days, Literal) and isinstance(days.value, float) and days.value.is_integer()
    if not whole or not 1 <= cast(float, cast(Literal, days).value) <= most:
        raise ExpressionFault(days.at, f"wants in {call.function}() days= as a whole number, 1 to {most}")


def _of_many(call: Call) -> Call:
    arguments = call.arguments
    match call.function:
        case "known":
            if len(arguments) != 1:
                raise ExpressionFault(call.at, "wants one value in known()")
            return call
        case "coalesce":
            return replace(call, kind=_same_kind(call, arguments))
        case "choose":
            if len(arguments) % 2 == 0:
                raise ExpressionFault(call.at, "wants in choose() pairs of a flag and a value, and a value at the end")
            for flag in arguments[:-1:2]:
                _wants(flag, "flag", "choose()")
            return replace(call, kind=_same_kind(call, (*arguments[1::2], arguments[-1])))
        case "band":
            _wants(arguments[0], "number", "band()")
            edges = [one.value for one in arguments[1:] if isinstance(one, Literal) and isinstance(one.value, float)]
            if len(edges) < len(arguments) - 1 or any(low >= high for low, high in pairwise(edges)):
                raise ExpressionFault(call.at, "wants in band() after the number its edges, as ascending numbers")
            return replace(call, kind="text")
    for one in arguments:
        _wants(one, "number", f"{call.function}()")
    return replace(call, kind="number")


def _same_kind(call: Call, given: Sequence[Node]) -> ExpressionKind:
    kinds = {as_moment(one, given[0]).kind for one in given}
    if len(kinds) > 1 or any(map(is_numbers, given)):
        raise ExpressionFault(call.at, f"mixes in {call.function}() {' and '.join(sorted(kinds))}; one kind is wanted")
    return given[0].kind
