"""Declarations: which attributes a user may have, and what their values may be."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

from tidings_core.changes import AttributeValue
from tidings_core.faults import Fault, text_fault

UserKind = Literal["keyword", "tags", "number", "date", "time", "flag"]
"""The kinds of an item's attributes, and a day of the calendar such as a birth date."""
USER_KINDS: tuple[UserKind, ...] = get_args(UserKind)
MAX_TEXT_BYTES = 256
MAX_TEXTS = 64
"""So many texts one attribute of the kind tags may have."""
MAX_NUMBER = 1e15
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_800.0
"""The years 1 to 9999, in Unix seconds."""
_TOLD = 20
_GIVEN = {
    "keyword": "one text",
    "tags": "texts",
    "number": "a number",
    "date": 'a day as a text such as "2001-05-03"',
    "time": "a time",
    "flag": "true or false",
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """An attribute that users may have, and what for.

    `values` are the texts it may have, () for any. `least` and `most` bound a number, a time (Unix seconds) or a date
    (its proleptic ordinal), None for no bound; `past` says that a date or time lies behind. A `sensitive` one is for
    nothing that was not allowed.
    """

    name: str
    kind: UserKind
    values: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    past: bool = False
    purpose: str = ""
    sensitive: bool = False


Declarations = Mapping[str, Declaration]

BUILT_IN: Declarations = MappingProxyType(
    {
        one.name: one
        for one in (
            Declaration("birth_date", "date", least=date(1900, 1, 1).toordinal(), past=True, purpose="age groups"),
            Declaration("age", "number", least=0.0, most=130.0, purpose="age groups"),
            Declaration("gender", "keyword", purpose="recommendations"),
            Declaration("city", "keyword", purpose="recommendations"),
            Declaration("interests", "tags", purpose="recommendations"),
        )
    }
)
"""Those that a shop need not declare."""


def day_of(text: str) -> date | None:
    """The day that a text names as YYYY-MM-DD, None for none."""
    try:
        return date.fromisoformat(text) if len(text) == len("2001-05-03") else None
    except ValueError:
        return None


def values_faults(given: Mapping[str, AttributeValue | None], declared: Declarations, now: float) -> Iterator[Fault]:
    """All that is wrong with values to set, or to remove (None), at `now` (Unix seconds)."""
    for name, value in given.items():
        declaration = declared.get(name)
        at = f"attributes[{name!r:.80}]"
        if declaration is None:
            names = sorted(declared)
            more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
            yield at, f"is not declared; declared are {', '.join(names[:_TOLD])}{more}: add a table [attribute.NAME]"
        elif value is not None and (problem := value_fault(declaration, value, now)):
            yield at, problem


def value_fault(declaration: Declaration, value: AttributeValue, now: float) -> str:
    """What is wrong with a value of a declared attribute at `now` (Unix seconds), "" for nothing."""
    if not _is_of(declaration.kind, value):
        return f"is {_shown(value)}, must be {_GIVEN[declaration.kind]}"
    match declaration.kind, value:
        case "tags", tuple():
            return _texts_fault(declaration, value)
        case "keyword", str():
            return _text_fault(declaration, value)
        case "date", str():
            return _date_fault(declaration, value, now)
        case "time", float():
            if not _FIRST <= value < _LAST:
                return "must be of the years 1 to 9999"
            return _bounds_fault(declaration, value) or ("lies ahead" if declaration.past and value > now else "")
        case "number", float():
            # Written so that NaN is refused too.
            if not (math.isfinite(value) and abs(value) <= MAX_NUMBER):
                return f"is {value:g}, must be a number of {MAX_NUMBER:g} at most"
            return _bounds_fault(declaration, value)
    return ""


def _is_of(kind: UserKind, value: AttributeValue) -> bool:
    match kind:
        case "keyword" | "date":
            return isinstance(value, str)
        case "tags":
            return isinstance(value, tuple)
        case "flag":
            return isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts_fault(declaration: Declaration, texts: tuple[str, ...]) -> str:
    if not texts:
        return "is empty: name a text, or remove the attribute"
    if len(texts) > MAX_TEXTS:
        return f"has {len(texts)} texts, may have {MAX_TEXTS} at most"
    problems = ((at, _text_fault(declaration, text)) for at, text in enumerate(texts))
    return next((f"[{at}] {problem}" for at, problem in problems if problem), "")


def _text_fault(declaration: Declaration, text: str) -> str:
    problem = text_fault(text, MAX_TEXT_BYTES, 1)
    if problem or not declaration.values or text in declaration.values:
        return problem
    allowed = ", ".join(declaration.values[:_TOLD]) + (" and more" if len(declaration.values) > _TOLD else "")
    return f"is {text!r:.80}; allowed are {allowed}"


def _date_fault(declaration: Declaration, text: str, now: float) -> str:
    day = day_of(text)
    if day is None:
        return f"is {text!r:.80}, which is no day; write it as in 2001-05-03"
    if declaration.past and day > datetime.fromtimestamp(now, UTC).date():
        return f"is {text}, which lies ahead"
    return _bounds_fault(declaration, float(day.toordinal()))


def _bounds_fault(declaration: Declaration, value: float) -> str:
    if declaration.least is not None and value < declaration.least:
        return f"is {_told(declaration.kind, value)}, must be {_told(declaration.kind, declaration.least)} or more"
    if declaration.most is not None and value > declaration.most:
        return f"is {_told(declaration.kind, value)}, may be {_told(declaration.kind, declaration.most)} at most"
    return ""


def _told(kind: UserKind, value: float) -> str:
    if kind == "date":
        return date.fromordinal(int(value)).isoformat()
    return datetime.fromtimestamp(value, UTC).isoformat() if kind == "time" else f"{value:g}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} texts"
    return f"{value!r:.80}"
