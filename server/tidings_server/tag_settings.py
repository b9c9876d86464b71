"""The tables [tag.NAME] of the settings: rules that say who has which tag, and those that are built in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tidings_core.declared import Declarations
from tidings_core.expressions import MAX_LENGTH, ExpressionFault, place
from tidings_core.faults import Fault
from tidings_core.tags import MAX_COST, OF_ITEMS, Rule, circle, ordered, read_rule
from tidings_server.push_settings import refuse

MAX_TAGS = 100
"""Tables of tags."""
_NAME = re.compile(r"([a-z][a-z0-9_]{0,63})(?::\{([a-z][a-z0-9_]{0,63})\})?")
_PLACE = re.compile(r"line (\d+), column (\d+): ")
_HEADER = re.compile(r"^\s*\[\s*(tag|trigger)\s*\.\s*(?:\"([^\"]+)\"|'([^']+)'|([A-Za-z0-9_-]+))\s*\]")
_KEY = re.compile(r"^\s*(when|weight)\s*=\s*(\"\"\"|''')?\s*(\S)?")


def _number_as_text(given: object) -> object:
    return f"{given:f}" if isinstance(given, int | float) and not isinstance(given, bool) else given


class TagTable(BaseModel):
    """A table [tag.NAME], or [tag."NAME:{category}"] for one tag of each category."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str = Field("", max_length=MAX_LENGTH, description="Expression that says whether, or which, tags there are.")
    weight: Annotated[str, BeforeValidator(_number_as_text)] = Field(
        "", max_length=MAX_LENGTH, description="Expression, or number, for how much it says; 1 when empty."
    )
    enabled: bool = Field(True, description="Whether there is such a tag; false takes a built-in one away.")


@dataclass(frozen=True, slots=True)
class _Source:
    """A rule before it is read."""

    key: str
    name: str
    variable: str
    when: str
    weight: str


_CHOSEN = {
    "lifecycle": """\
choose(
  not known(days_since()), "",
  days_since() > 180, "lost",
  days_since() > 60, "lapsing",
  days_since_first() <= 30, "new",
  "active"
)""",
    "rfm": """\
choose(
  orders() == 0, "",
  days_since("purchase") <= 30 and orders(days=365) >= 4 and spent(days=365) >= 500, "champion",
  days_since("purchase") <= 90 and orders(days=365) >= 3, "loyal",
  days_since("purchase") <= 180 and spent(days=365) >= 500, "big_spender",
  days_since("purchase") <= 90, "promising",
  days_since("purchase") <= 365 and orders(days=730) >= 3, "at_risk",
  "hibernating"
)""",
    "price_band": """\
choose(
  not known(price_rank()), "",
  price_rank() < 0.34, "low",
  price_rank() < 0.67, "middle",
  "high"
)""",
}
_RECENT = "bought(category=category, days=30)"
BUILT_IN: Mapping[str, TagTable] = MappingProxyType(
    {
        name: TagTable.model_validate({"when": when, "weight": weight})
        for name, when, weight in (
            ("age_group", "band(coalesce(years_since(birth_date), age), 18, 25, 35, 45, 55, 65)", ""),
            ("gender", "gender", ""),
            ("interests", "interests", ""),
            ("recent_purchase:{category}", f"{_RECENT} > 0", _RECENT),
            *((name, when, "") for name, when in _CHOSEN.items()),
        )
    }
)
"""Tags that a shop need not define; a table of the same name, without what is in braces, takes the place of one."""


def tags_checked(tables: dict[str, TagTable], declared: Declarations | None) -> dict[str, TagTable]:
    """The tables as they are, if all of them can be asked. Raises ValidationError.

    `declared` is None when the attributes have faults of their own.
    """
    refuse(_name_faults(tables))
    if declared is not None:
        faults: list[tuple[str, str, str]] = []
        rules = _read(tables, declared, faults)
        faults += _together(rules)
        refuse(((key, field), problem) for key, field, problem in faults)
    return tables


def rules_of(tables: Mapping[str, TagTable], declared: Declarations) -> tuple[Rule, ...]:
    """The rules, built-in ones among them, each after those it asks for. The tables must be without faults."""
    return ordered({rule.name: rule for rule in _read(tables, declared, []).values()})


def with_lines(faults: list[Fault], content: str) -> list[Fault]:
    """Faults of expressions with the line of the file that each is in, where it is found."""
    starts = _starts(content)
    told = []
    for field, problem in faults:
        at = _PLACE.match(problem)
        line = starts.get(field)
        if at is None or line is None:
            told.append((field, problem))
            continue
        inner, column = int(at[1]), at[2]
        where = f"line {line + inner - 1}" + (f", column {column} of the expression" if column != "0" else "")
        told.append((field, f"{where}: {problem[at.end() :]}"))
    return told


def _name_faults(tables: Mapping[str, TagTable]) -> Iterator[tuple[tuple[str, ...], str]]:
    if len(tables) > MAX_TAGS:
        yield (), f"tag: has {len(tables)} tables, may have {MAX_TAGS} at most"
    seen: dict[str, str] = {}
    for key, table in tables.items():
        match = _NAME.fullmatch(key)
        if match is None:
            yield (key,), 'is no name of a tag: use a-z, 0-9 and _, as in vip or "likes:{category}"'
        elif match[1] in seen:
            yield (key,), f"is the tag {match[1]} again, which {seen[match[1]]!r} is: give it another name"
        elif table.enabled and not table.when:
            yield (key, "when"), "is missing"
        else:
            seen[match[1]] = key


def _sources(tables: Mapping[str, TagTable]) -> Iterator[_Source]:
    own = {key.partition(":")[0] for key in tables}
    built_in = {key: table for key, table in BUILT_IN.items() if key.partition(":")[0] not in own}
    for key, table in {**built_in, **tables}.items():
        match = _NAME.fullmatch(key)
        if match is not None and table.enabled:
            yield _Source(key, match[1], match[2] or "", table.when, table.weight)


def _read(
    tables: Mapping[str, TagTable], declared: Declarations, faults: list[tuple[str, str, str]]
) -> dict[str, Rule]:
    """The rules that can be read, by the key of their table; `faults` get the key, field and problem of the others."""
    found: dict[str, Rule] = {}
    for source in _sources(tables):

        def fault(field: str, error: ExpressionFault, source: _Source = source) -> None:
            line, column = place(source.when if field == "when" else source.weight, error.at)
            faults.append((source.key, field, f"line {line}, column {column}: {error.problem}"))

        variable = source.variable
        declaration = declared.get(variable)
        if (
            variable
            and variable not in OF_ITEMS
            and (declaration is None or declaration.kind not in ("keyword", "tags"))
        ):
            problem = (
                f"goes through {{{variable}}}: category, brand, or a declared attribute of the kind keyword or tags"
            )
            faults.append((source.key, "when", f"line 1, column 0: {problem}"))
            continue
        rule = read_rule(source.name, source.when, source.weight, variable, declared, fault)
        if rule is not None:
            found[source.key] = rule
    return found


def _together(rules: Mapping[str, Rule]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with rules beside each other."""
    by_name = {rule.name: rule for rule in rules.values()}
    keys = {rule.name: key for key, rule in rules.items()}
    names = circle(by_name)
    if names:
        yield keys[names[0]], "when", f"line 1, column 0: asks for itself in a circle: {' -> '.join(names)}"
    cost = sum(rule.cost for rule in rules.values())
    if cost > MAX_COST:
        key, dearest = max(rules.items(), key=lambda entry: entry[1].cost)
        said = f"all tags cost {cost} together, may cost {MAX_COST}; this one costs {dearest.cost}, the most"
        yield key, "when", f"line 1, column 0: {said}"


def _starts(content: str) -> dict[str, int]:
    """The line, from 1, on which each expression begins, by its field; only what stands in tables of its own."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(content.splitlines(), start=1):
        header = _HEADER.match(line)
        if header is not None:
            table = f"{header[1]}.{header[2] or header[3] or header[4]}"
        elif line.lstrip().startswith("["):
            table = ""
        elif table and (key := _KEY.match(line)) is not None:
            # TOML leaves out a line break right after the quotes.
            found[f"{table}.{key[1]}"] = number + (bool(key[2]) and key[3] is None)
    return found
