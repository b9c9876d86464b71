"""The language of tags: a text to a checked tree, with no loops, that knows no names but those it is given.

    lifecycle == "new" and count("purchase", days=30) > 0
    choose(spent() > 1000, "high", spent() > 100, "middle", "low")

    any:    all ("or" all)*                     all:   not ("and" not)*             not: "not" not | compared
    compared: sum [("<" | "<=" | ">" | ">=" | "==" | "!=" | "in" | "not" "in") sum]
    sum:    product (("+" | "-") product)*      product: signed (("*" | "/") signed)*
    signed: "-" signed | atom
    atom:   number | text | "true" | "false" | name | name "(" [argument ("," argument)*] ")" | "(" any ")"
            | "[" [atom ("," atom)*] "]"        argument: any | name "=" any

Every part has a kind that is known before anything is evaluated: a number, a text, texts, a flag or a moment.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal as OneOf

from tidings_core.declared import day_of

ExpressionKind = OneOf["number", "text", "texts", "flag", "moment"]
Operator = OneOf["<", "<=", ">", ">=", "==", "!=", "in", "not in", "+", "-", "*", "/"]
Value = float | str | bool | tuple[str, ...] | tuple[float, ...]
"""What a literal has. A moment is Unix milliseconds."""

MAX_LENGTH = 2000
"""Characters of one expression."""
MAX_DEPTH = 24
"""Parts within parts."""
MAX_NODES = 200
"""Parts of one expression."""
CALL_COST = 5
"""What a call costs, where every other part costs 1."""
_COMPARING = ("<", "<=", ">", ">=", "==", "!=")
_TOKEN = re.compile(
    r"(?P<blank>\s+)|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<text>\"[^\"\n]*\"|'[^'\n]*')|(?P<sign><=|>=|==|!=|[-+*/<>()\[\],=])",
    re.ASCII,
)
_WORDS = ("and", "or", "not", "in", "true", "false")


class ExpressionFault(Exception):
    """Something is wrong with an expression, at a place in it."""

    def __init__(self, at: int, problem: str) -> None:
        self.at = at
        self.problem = problem
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the expression."""

    at: int
    kind: ExpressionKind
    value: Value


@dataclass(frozen=True, slots=True)
class Name:
    """An attribute of the user, or what a family of tags goes through."""

    at: int
    kind: ExpressionKind
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of its arguments."""

    at: int
    kind: ExpressionKind
    function: str
    arguments: tuple["Node", ...]
    named: Mapping[str, "Node"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Not:
    """A flag turned round."""

    at: int
    part: "Node"
    kind: ExpressionKind = "flag"


@dataclass(frozen=True, slots=True)
class Binary:
    """Two parts joined by an operator."""

    at: int
    kind: ExpressionKind
    operator: Operator
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Several:
    """Flags of which all hold, or any."""

    at: int
    word: OneOf["and", "or"]
    parts: tuple["Node", ...]
    kind: ExpressionKind = "flag"


Node = Literal | Name | Call | Not | Binary | Several
Resolve = Callable[[Call], Call]
"""Checks a call and gives it its kind. Raises ExpressionFault."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression, its cost, and what it reads: names of attributes, and calls."""

    source: str
    root: Node
    cost: int

    @property
    def nodes(self) -> Iterator[Node]:
        """All its parts."""
        return walk(self.root)


def parse(source: str, names: Mapping[str, ExpressionKind], resolve: Resolve) -> Expression:
    """The expression of a text, in which `names` may stand. Raises ExpressionFault."""
    if len(source) > MAX_LENGTH:
        raise ExpressionFault(MAX_LENGTH, f"has {len(source)} characters, may have {MAX_LENGTH} at most")
    parser = _Parser(source, names, resolve)
    root = parser.whole()
    nodes = list(walk(root))
    if len(nodes) > MAX_NODES:
        raise ExpressionFault(0, f"has {len(nodes)} parts, may have {MAX_NODES} at most")
    return Expression(source, root, sum(CALL_COST if isinstance(node, Call) else 1 for node in nodes))


def place(source: str, at: int) -> tuple[int, int]:
    """Line and column of a place in a text, both from 1."""
    before = source[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def walk(node: Node) -> Iterator[Node]:
    """A part, and all that are in it."""
    yield node
    match node:
        case Call():
            inner: Sequence[Node] = (*node.arguments, *node.named.values())
        case Not():
            inner = (node.part,)
        case Binary():
            inner = (node.left, node.right)
        case Several():
            inner = node.parts
        case _:
            inner = ()
    for part in inner:
        yield from walk(part)


@dataclass(frozen=True, slots=True)
class _Token:
    at: int
    what: str
    text: str


def _tokens(source: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            what = "a text without its end" if source[at] in "\"'" else f"{source[at]!r}, which means nothing here"
            raise ExpressionFault(at, f"has {what}")
        what = match.lastgroup or ""
        text = match[0]
        if what == "name" and text in _WORDS:
            what = "sign"
        if what != "blank":
            found.append(_Token(at, what, text))
        at = match.end()
    return [*found, _Token(len(source), "end", "")]


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, source: str, names: Mapping[str, ExpressionKind], resolve: Resolve) -> None:
        self._tokens = _tokens(source)
        if (count := sum(token.what in ("number", "name", "text") for token in self._tokens)) > MAX_NODES:
            raise ExpressionFault(0, f"has {count} names and values, may have {MAX_NODES} at most")
        self._next = 0
        self._depth = 0
        self._names = names
        self._resolve = resolve

    def whole(self) -> Node:
        node = self._any()
        if self._token.what != "end":
            raise ExpressionFault(self._token.at, f"goes on with {self._token.text!r} where it should end")
        return node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _sees(self, *texts: str) -> bool:
        return self._token.what == "sign" and self._token.text in texts

    def _take(self, *texts: str) -> _Token | None:
        if not self._sees(*texts):
            return None
        self._next += 1
        return self._tokens[self._next - 1]

    def _expect(self, text: str, inside: str) -> _Token:
        taken = self._take(text)
        if taken is None:
            seen = f"{self._token.text!r} stands" if self._token.what != "end" else "it ends"
            raise ExpressionFault(self._token.at, f"needs {text!r} to end {inside}, where {seen}")
        return taken

    def _any(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionFault(self._token.at, f"is more than {MAX_DEPTH} parts deep")
        node = self._several("or", lambda: self._several("and", self._not))
        self._depth -= 1
        return node

    def _several(self, word: OneOf["and", "or"], part: Callable[[], Node]) -> Node:
        first = part()
        parts = [first]
        while self._take(word):
            parts.append(part())
        if len(parts) == 1:
            return first
        for one in parts:
            _is(one, "flag", f"{word!r} joins flags")
        return Several(first.at, word, tuple(parts))

    def _not(self) -> Node:
        negations: list[int] = []
        while self._sees("not"):
            negations.append(self._token.at)
            self._next += 1
            if len(negations) > MAX_DEPTH:
                raise ExpressionFault(self._token.at, f"is more than {MAX_DEPTH} parts deep")
        node = self._compared()
        for at in reversed(negations):
            _is(node, "flag", "'not' turns a flag round")
            node = Not(at, node)
        return node

    def _compared(self) -> Node:
        left = self._sum()
        operator = self._operator()
        if operator is None:
            return left
        right = self._sum()
        again = self._token.at
        if self._operator() is not None:
            raise ExpressionFault(again, "compares twice in a row; write a < b and b < c")
        return _compared(operator, left, right)

    def _operator(self) -> Operator | None:
        if self._sees("not") and self._tokens[self._next + 1].text == "in":
            self._next += 2
            return "not in"
        taken = self._take(*_COMPARING, "in")
        if taken is None:
            if self._sees("="):
                raise ExpressionFault(self._token.at, "has one '='; write '==' to compare")
            return None
        return taken.text  # type: ignore[return-value]

    def _sum(self) -> Node:
        return self._joined(("+", "-"), lambda: self._joined(("*", "/"), self._signed))

    def _joined(self, operators: tuple[str, ...], part: Callable[[], Node]) -> Node:
        node = part()
        while taken := self._take(*operators):
            right = part()
            for one in (node, right):
                _is(one, "number", f"{taken.text!r} joins numbers")
            node = Binary(node.at, "number", taken.text, node, right)  # type: ignore[arg-type]
        return node

    def _signed(self) -> Node:
        minus = self._take("-")
        if minus is None:
            return self._atom()
        node = self._atom()
        _is(node, "number", "'-' stands before a number")
        if isinstance(node, Literal) and isinstance(node.value, float):
            return replace(node, at=minus.at, value=-node.value)
        return Binary(minus.at, "number", "-", Literal(minus.at, "number", 0.0), node)

    def _atom(self) -> Node:
        token = self._token
        if token.what == "end":
            raise ExpressionFault(token.at, "ends where something should follow")
        self._next += 1
        match token.what, token.text:
            case "number", text:
                return Literal(token.at, "number", float(text))
            case "text", text:
                return Literal(token.at, "text", text[1:-1])
            case "sign", "true" | "false":
                return Literal(token.at, "flag", token.text == "true")
            case "sign", "(":
                node = self._any()
                self._expect(")", "what '(' began")
                return node
            case "sign", "[":
                return self._list(token.at)
            case "name", name:
                return self._call(token) if self._take("(") else self._name(token.at, name)
        raise ExpressionFault(token.at, f"has {token.text!r} where a value should stand")

    def _name(self, at: int, name: str) -> Node:
        kind = self._names.get(name)
        if kind is None:
            known = ", ".join(sorted(self._names)) or "none"
            raise ExpressionFault(at, f"names {name!r}, which is no declared attribute; known are {known}")
        return Name(at, kind, name)

    def _list(self, at: int) -> Node:
        found: list[Literal] = []
        while not self._take("]"):
            if found:
                self._expect(",", "an entry of a list, or ']'")
            node = self._signed()
            if not isinstance(node, Literal) or node.kind not in ("number", "text"):
                raise ExpressionFault(node.at, "has in a list what is neither a text nor a number")
            if found and node.kind != found[0].kind:
                raise ExpressionFault(node.at, "mixes texts and numbers in a list")
            found.append(node)
        if not found:
            raise ExpressionFault(at, "has an empty list")
        return Literal(at, "texts", tuple(one.value for one in found))  # type: ignore[arg-type]

    def _call(self, token: _Token) -> Node:
        arguments: list[Node] = []
        named: dict[str, Node] = {}
        while not self._take(")"):
            if arguments or named:
                self._expect(",", f"an argument of {token.text}(), or ')'")
            name, following = self._token, self._tokens[min(self._next + 1, len(self._tokens) - 1)]
            if name.what == "name" and following.text == "=":
                self._next += 2
                if name.text in named:
                    raise ExpressionFault(name.at, f"gives {name.text}= twice")
                named[name.text] = self._any()
            elif named:
                raise ExpressionFault(name.at, "has an argument without a name after one with a name")
            else:
                arguments.append(self._any())
        return self._resolve(Call(token.at, "flag", token.text, tuple(arguments), named))


def _is(node: Node, kind: ExpressionKind, said: str) -> None:
    if node.kind != kind or is_numbers(node):
        raise ExpressionFault(node.at, f"has {described(node)} where a {kind} should stand: {said}")


def is_numbers(node: Node) -> bool:
    """Whether a part is a list of numbers, which only `in` may look into."""
    return isinstance(node, Literal) and isinstance(node.value, tuple) and not isinstance(node.value[0], str)


def described(node: Node) -> str:
    """What a part is, for a message."""
    if is_numbers(node):
        return "a list of numbers"
    return "texts" if node.kind == "texts" else f"a {node.kind}"


def _compared(operator: Operator, left: Node, right: Node) -> Node:
    if operator in ("in", "not in"):
        if is_numbers(right):
            _is(left, "number", f"{operator!r} looks for it among numbers")
        elif right.kind != "texts":
            raise ExpressionFault(right.at, f"has {described(right)} after {operator!r}; texts or a list are wanted")
        else:
            _is(left, "text", f"{operator!r} looks for it among texts")
        return Binary(left.at, "flag", operator, left, right)
    left, right = as_moment(left, right), as_moment(right, left)
    for one in (left, right):
        if one.kind == "texts":
            raise ExpressionFault(one.at, f'compares texts by {operator!r}; write "a" in them')
    if left.kind != right.kind:
        raise ExpressionFault(left.at, f"compares {described(left)} with {described(right)}")
    if operator not in ("==", "!=") and left.kind not in ("number", "moment"):
        raise ExpressionFault(
            left.at, f"orders by {operator!r} what is {described(left)}; numbers and moments have an order"
        )
    return Binary(left.at, "flag", operator, left, right)


def as_moment(node: Node, other: Node) -> Node:
    """A text that stands beside a moment as the moment it names."""
    if other.kind != "moment" or not isinstance(node, Literal) or not isinstance(node.value, str):
        return node
    day = day_of(node.value)
    if day is None:
        raise ExpressionFault(
            node.at, f'has {node.value!r:.40} beside a date, which is no day; write it as "2001-05-03"'
        )
    return Literal(node.at, "moment", datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
