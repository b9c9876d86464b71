"""Tags: what the rules of a shop say of a user at a moment, beside the tags that were set by hand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidings_core.changes import MAX_NAME_BYTES, MAX_WEIGHT, base_of
from tidings_core.declared import Declarations
from tidings_core.evaluation import evaluate
from tidings_core.events import EventType
from tidings_core.expressions import Call, Expression, ExpressionFault, ExpressionKind, Name, is_numbers, parse
from tidings_core.stated import Stated
from tidings_core.tag_functions import check_growth, reads_from, resolve, tag_of
from tidings_core.tag_view import FOREVER, Seen, View

MOST_VALUES = 64
"""So many tags one rule gives at most."""
MAX_COST = 20_000
"""What all rules may cost together, those of a family MOST_VALUES times."""
STEPS = 16
"""So often time is moved on to see when tags end."""
OF_ITEMS = ("category", "brand")
"""What a family may go through besides the user's own attributes of text."""
_KINDS: Mapping[str, ExpressionKind] = {
    "keyword": "text",
    "tags": "texts",
    "number": "number",
    "date": "moment",
    "time": "moment",
    "flag": "flag",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: who has which tag. A flag gives the tag NAME, a text NAME:text, texts one each; "" gives none.

    With a `variable` it is asked for each text that the variable stands for, and gives NAME:text where the flag holds.
    `weight` None: 1.
    """

    name: str
    when: Expression
    weight: Expression | None = None
    variable: str = ""

    @property
    def cost(self) -> int:
        """What asking it costs."""
        cost = self.when.cost + (0 if self.weight is None else self.weight.cost)
        return cost * (MOST_VALUES if self.variable else 1)

    @property
    def calls(self) -> Iterator[Call]:
        """Every function it calls."""
        for expression in (self.when, self.weight):
            if expression is not None:
                yield from (node for node in expression.nodes if isinstance(node, Call))

    @property
    def tags(self) -> frozenset[str]:
        """The names of the tags, or families, that it asks for."""
        return frozenset(tag for call in self.calls if (tag := tag_of(call)) is not None)

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes that it goes by."""
        expressions = (self.when, *([] if self.weight is None else [self.weight]))
        read = {node.name for one in expressions for node in one.nodes if isinstance(node, Name)}
        return frozenset(read | ({self.variable} - {""} - set(OF_ITEMS)))


@dataclass(frozen=True, slots=True)
class RuleTag:
    """A tag that a rule gives."""

    tag: str
    weight: float


@dataclass(frozen=True, slots=True)
class Given:
    """The tags that rules give, by name, and until when each rule says so if nothing happens (Unix milliseconds)."""

    tags: Mapping[str, RuleTag]
    untils: Mapping[str, float]

    @property
    def until(self) -> float:
        """The first moment (Unix milliseconds) that may change any of them by itself."""
        return min(self.untils.values(), default=FOREVER)


NONE_GIVEN = Given({}, {})


def read_rule(
    name: str,
    when: str,
    weight: str,
    variable: str,
    declared: Declarations,
    fault: Callable[[str, ExpressionFault], None],
) -> Rule | None:
    """The rule of texts, None when they have faults; `fault` is told of each with its field, "when" or "weight"."""
    names: dict[str, ExpressionKind] = {one.name: _KINDS[one.kind] for one in declared.values()}
    if variable:
        names[variable] = "text"
    parsed: dict[str, Expression] = {}
    for field, source in (("when", when), ("weight", weight)):
        if not source:
            continue
        try:
            parsed[field] = parse(source, names, resolve)
            _check(field, parsed[field], variable)
            check_growth(parsed[field])
        except ExpressionFault as error:
            parsed.pop(field, None)
            fault(field, error)
    if "when" not in parsed or (weight and "weight" not in parsed):
        return None
    return Rule(name, parsed["when"], parsed.get("weight"), variable)


def _check(field: str, expression: Expression, variable: str) -> None:
    kind = expression.root.kind
    if field == "weight" and kind != "number":
        raise ExpressionFault(0, f"gives a {kind}, where a weight is a number")
    if field == "when" and variable and kind != "flag":
        raise ExpressionFault(0, f"gives {kind} for each {variable}; a flag is wanted: whether there is the tag")
    if field == "when" and is_numbers(expression.root):
        raise ExpressionFault(0, "gives a list of numbers, where a flag, a text or texts say which tags there are")
    if field == "when" and kind not in ("flag", "text", "texts"):
        raise ExpressionFault(0, f"gives a {kind}, where a flag, a text or texts say which tags there are")


def read_condition(source: str, declared: Declarations) -> Expression:
    """The condition on a user in a text. Raises ExpressionFault."""
    condition = parse(source, {one.name: _KINDS[one.kind] for one in declared.values()}, resolve)
    check_growth(condition)
    if condition.root.kind != "flag":
        raise ExpressionFault(0, f"gives a {condition.root.kind}; a flag is wanted: whether it holds")
    return condition


def circle(rules: Mapping[str, Rule]) -> list[str]:
    """Names of rules that ask for each other in a circle, the first one again at the end; [] when there is none."""
    done: set[str] = set()
    for start in rules:
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(_asked(rules, start)))] if start not in done else []
        while stack:
            name, asked = stack[-1]
            if not path or path[-1] != name:
                path.append(name)
            following = next(asked, None)
            if following is None:
                done.add(name)
                stack.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                stack.append((following, iter(_asked(rules, following))))
    return []


def ordered(rules: Mapping[str, Rule]) -> tuple[Rule, ...]:
    """The rules, each after those that it asks for. There must be no circle."""
    found: dict[str, Rule] = {}
    while len(found) < len(rules):
        found.update(
            (name, rule)
            for name, rule in rules.items()
            if name not in found and found.keys() >= set(_asked(rules, name))
        )
    return tuple(found.values())


def with_all_asked(names: Sequence[str], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Of rules in order those of these names, and all that they ask for."""
    wanted = set(names)
    for rule in reversed(rules):
        if rule.name in wanted:
            wanted.update(map(base_of, rule.tags))
    return tuple(rule for rule in rules if rule.name in wanted)


def attributes_of(names: Sequence[str], rules: Sequence[Rule]) -> frozenset[str]:
    """The attributes that tags of these names, or families, go by; rules stand in order."""
    asked = with_all_asked([base_of(name) for name in names], rules)
    return frozenset(attribute for rule in asked for attribute in rule.attributes)


def read_by(condition: Expression, rules: Sequence[Rule]) -> frozenset[str]:
    """The attributes that a condition goes by, also through the tags it asks for; rules stand in order."""
    named = {node.name for node in condition.nodes if isinstance(node, Name)}
    tags = [tag for node in condition.nodes if isinstance(node, Call) and (tag := tag_of(node)) is not None]
    return frozenset(named) | attributes_of(tags, rules)


def follows_pushes(rule: Rule) -> set[EventType]:
    """The types of events it counts which may follow from a push."""
    return {type for call in rule.calls for type in reads_from(call)}


def _asked(rules: Mapping[str, Rule], name: str) -> list[str]:
    return sorted({base_of(tag) for tag in rules[name].tags} & rules.keys())


def give(rules: Sequence[Rule], view: View) -> Given:
    """What rules, each after those it asks for, say of a user."""
    given: dict[str, RuleTag] = {}
    untils: dict[str, float] = {}
    hand = view.profile.stated.tags_at(view.now)

    def has_tag(name: str) -> Seen:
        for tag, word in hand.items():
            if name in (tag, base_of(tag)):
                assert word.setting is not None
                return Seen(True, word.setting.expires or FOREVER)
        # A tag set by hand that will hold later than now does not exist: all begin at once.
        there = name in given or any(base_of(tag) == name for tag in given)
        return Seen(there, untils.get(base_of(name), FOREVER))

    for rule in rules:
        found, until = _ask(rule, view, has_tag)
        given.update((one.tag, one) for one in found)
        untils[rule.name] = until
    return Given(given, untils)


def ends(rules: Sequence[Rule], given: Given, view_at: Callable[[int], View]) -> Mapping[str, int]:
    """When tags end if nothing happens (Unix milliseconds), of those whose end is in sight."""
    found: dict[str, int] = {}
    left, untils = set(given.tags), dict(given.untils)
    for _ in range(STEPS):
        # Only the rules that may change next are asked again, with those they ask for.
        moment = min((untils.get(base_of(tag), FOREVER) for tag in left), default=FOREVER)
        if moment == FOREVER:
            break
        changing = {base_of(tag) for tag in left if untils.get(base_of(tag)) == moment}
        later = give(with_all_asked(sorted(changing), rules), view_at(int(moment)))
        gone = {tag for tag in left if base_of(tag) in changing and tag not in later.tags}
        found.update((tag, int(moment)) for tag in gone)
        left -= gone
        untils.update((name, later.untils[name]) for name in changing)
    return found


def hand_tags(stated: Stated, now_ms: int) -> frozenset[str]:
    """The tags set by hand that hold at a moment."""
    return frozenset(stated.tags_at(now_ms))


def _ask(rule: Rule, view: View, has_tag: Callable[[str], Seen]) -> tuple[list[RuleTag], float]:
    """The tags that a rule gives, and until when."""
    if not rule.variable:
        seen = evaluate(rule.when, view, has_tag, {})
        tags = [rule.name] if seen.value is True else []
        if isinstance(seen.value, str | tuple):
            texts = (seen.value,) if isinstance(seen.value, str) else seen.value
            tags = [f"{rule.name}:{text}" for text in texts if text]
        return [_weighted(rule, tag, view, has_tag, {}) for tag in _fit(tags)], seen.until
    found: list[RuleTag] = []
    until = FOREVER
    for text in view.texts(rule.variable)[:MOST_VALUES]:
        variable = {rule.variable: text}
        seen = evaluate(rule.when, view, has_tag, variable)
        until = min(until, seen.until)
        if seen.value is True:
            found += [_weighted(rule, tag, view, has_tag, variable) for tag in _fit([f"{rule.name}:{text}"])]
    return found, until


def _fit(tags: list[str]) -> list[str]:
    """Those whose names are no longer than a name may be."""
    return [tag for tag in tags[:MOST_VALUES] if len(tag.encode()) <= MAX_NAME_BYTES]


def _weighted(rule: Rule, tag: str, view: View, has_tag: Callable[[str], Seen], variable: Mapping[str, str]) -> RuleTag:
    if rule.weight is None:
        return RuleTag(tag, 1.0)
    weight = evaluate(rule.weight, view, has_tag, variable).value
    return RuleTag(tag, 1.0 if weight is None else min(max(weight, 0.0), MAX_WEIGHT))
