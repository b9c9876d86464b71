"""The language of tags: what is written means one thing, and whatever is written ends."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_core.declared import BUILT_IN
from tidings_core.evaluation import evaluate
from tidings_core.expressions import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_NODES,
    Expression,
    ExpressionFault,
    ExpressionKind,
    parse,
    place,
)
from tidings_core.profile import EMPTY
from tidings_core.tag_functions import FUNCTIONS, resolve
from tidings_core.tag_view import Seen, View

NAMES: dict[str, ExpressionKind] = {
    "age": "number",
    "gender": "text",
    "interests": "texts",
    "member": "flag",
    "birth_date": "moment",
}


def read(source: str) -> Expression:
    """The expression of a text."""
    return parse(source, NAMES, resolve)


def worth(source: str) -> Any:
    """What an expression without attributes is worth."""
    view = View(EMPTY, 1_700_000_000_000, BUILT_IN)
    return evaluate(read(source), view, lambda _: Seen(False), {}).value


Written = tuple[str, Callable[[], Any]]


def _joined(operator: str, meant: Callable[[Any, Any], Any]) -> Callable[[Written, Written], Written]:
    def join(left: Written, right: Written) -> Written:
        def value() -> Any:
            a, b = left[1](), right[1]()
            return None if a is None or b is None else meant(a, b)

        return f"({left[0]} {operator} {right[0]})", value

    return join


def _divide(a: float, b: float) -> float | None:
    return a / b if b else None


def _flag(written: Written) -> bool:
    return written[1]() is True


numbers = st.recursive(
    st.integers(0, 1000).map(lambda n: (str(n), lambda: float(n)))
    | st.decimals(0, 100, places=2).map(lambda n: (str(n), lambda: float(n))),
    lambda inner: st.one_of(
        st.builds(_joined("+", lambda a, b: a + b), inner, inner),
        st.builds(_joined("-", lambda a, b: a - b), inner, inner),
        st.builds(_joined("*", lambda a, b: a * b), inner, inner),
        st.builds(_joined("/", _divide), inner, inner),
        inner.map(lambda w: (f"-({w[0]})", lambda: None if w[1]() is None else -w[1]())),
    ),
    max_leaves=8,
)
flags = st.recursive(
    st.one_of(
        st.sampled_from([("true", lambda: True), ("false", lambda: False)]),
        st.builds(_joined("<", lambda a, b: a < b), numbers, numbers),
        st.builds(_joined(">=", lambda a, b: a >= b), numbers, numbers),
        st.builds(_joined("!=", lambda a, b: a != b), numbers, numbers),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: (f"{p[0][0]} and {p[1][0]}", lambda: _flag(p[0]) and _flag(p[1]))),
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]} or {p[1][0]})", lambda: _flag(p[0]) or _flag(p[1]))),
        inner.map(lambda w: (f"not ({w[0]})", lambda: not _flag(w))),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(numbers)
def test_numbers_are_worth_what_arithmetic_says(written: Written) -> None:
    """Division by nothing is not known, and neither is what comes of it."""
    if written[0].count("(") > MAX_DEPTH:
        return
    found, expected = worth(written[0]), written[1]()
    assert (found is None) == (expected is None)
    if expected is not None:
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=150, deadline=None)
@given(flags)
def test_flags_hold_when_logic_says_so(written: Written) -> None:
    """`and` binds before `or`, `not` before both; a comparison with what is not known does not hold."""
    if written[0].count("(") > MAX_DEPTH:
        return
    assert worth(written[0]) == _flag(written)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 2 * 3", 7.0),
        ("10 - 4 - 3", 3.0),
        ("12 / 4 / 3", 1.0),
        ("-2 * -3", 6.0),
        ("1 < 2 and 2 < 3 or false", True),
        ("not 1 == 2", True),
        ("true or false and false", True),
        ("'a' in ['a', 'b']", True),
        ("3 not in [1, 2]", True),
        ('"it\'s" == "it\'s"', True),
        ("choose(1 > 2, 'a', 2 > 1, 'b', 'c')", "b"),
        ("choose(false, 1, 2)", 2.0),
        ("band(25, 18, 25, 35)", "25-34"),
        ("band(17.9, 18, 25)", "under-18"),
        ("band(65, 18, 65)", "65+"),
        ("band(0.7, 0.5, 1)", "0.5-1"),
        ("least(3, 1, 2) + most(3, 1, 2)", 4.0),
        ("known(gender)", False),
        ("coalesce(age, 7)", 7.0),
        ("age > 1 or age <= 1", False),
        ("gender == 'male'", False),
        ("count('view') + orders() + spent()", 0.0),
        ("days_since('purchase') > 5", False),
    ],
)
def test_an_expression_is_worth_what_it_says(source: str, value: Any) -> None:
    """Of somebody of whom nothing is known."""
    assert worth(source) == value


@pytest.mark.parametrize(
    ("source", "at", "said"),
    [
        ("", 0, "ends where something should follow"),
        ("1 +", 3, "ends where something should follow"),
        ("1 2", 2, "goes on with '2'"),
        ("(1", 2, "needs ')' to end what '(' began, where it ends"),
        ("shoe", 0, "names 'shoe', which is no declared attribute; known are age, birth_date"),
        ("shoe(1)", 0, "calls shoe(), which is no function; known are count()"),
        ("age = 1", 4, "write '==' to compare"),
        ("1 < 2 < 3", 6, "compares twice in a row"),
        ("age == 'x'", 0, "compares a number with a text"),
        ("gender < 'x'", 0, "numbers and moments have an order"),
        ("interests == 'x'", 0, 'write "a" in them'),
        ("gender in 'x'", 10, "texts or a list are wanted"),
        ("age and true", 0, "'and' joins flags"),
        ("not age", 4, "'not' turns a flag round"),
        ("gender + 1", 0, "'+' joins numbers"),
        ("'open", 0, "a text without its end"),
        ("age & 1", 4, "'&', which means nothing here"),
        ("[1, 'a']", 4, "mixes texts and numbers"),
        ("[]", 0, "empty list"),
        ("count('looked')", 6, "one of view, search"),
        ("count(gender)", 6, "one of view, search"),
        ("count('view', days=99)", 19, "1 to 31"),
        ("count('view', days=age)", 19, "as a whole number"),
        ("count('view', hours=1)", 20, "it takes days"),
        ("count()", 0, "too little"),
        ("spent(1)", 6, "too much"),
        ("spent(days=1, days=2)", 14, "gives days= twice"),
        ("has_tag(gender)", 8, "a text in quotes"),
        ("bought(category='a', brand='b')", 0, "one of category= and brand="),
        ("affinity()", 0, "one of category= and brand="),
        ("choose(true, 1)", 0, "too little"),
        ("choose(true, 1, false, 2)", 0, "pairs of a flag and a value"),
        ("choose(true, 1, 'a')", 0, "mixes in choose() number and text"),
        ("band(age, 5, 3)", 0, "ascending"),
        ("birth_date < 'spring'", 13, "no day"),
        ("birth_date < 5", 0, "compares a moment with a number"),
        ("__import__('os')", 0, "no function"),
        ("age.real", 3, "means nothing here"),
        ("lambda", 0, "no declared attribute"),
    ],
)
def test_what_means_nothing_is_told_with_its_place(source: str, at: int, said: str) -> None:
    """The first thing that is wrong, where it stands, and what would do."""
    with pytest.raises(ExpressionFault) as raised:
        read(source)
    assert said in raised.value.problem
    assert raised.value.at == at


def test_a_place_has_a_line_and_a_column() -> None:
    """Both from 1."""
    assert [place("ab\ncd", at) for at in (0, 1, 3, 4, 5)] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 + " * MAX_LENGTH + "1", "characters"),
        ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "deep"),
        ("not " * (MAX_DEPTH + 2) + "true", "deep"),
        ("1 + " * MAX_NODES + "1", "at most"),
        ("[" + "1," * MAX_NODES + "1]", "at most"),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_asked(source: str, said: str) -> None:
    """Length, depth and parts are bounded, so that what is evaluated is."""
    with pytest.raises(ExpressionFault, match=said):
        read(source)


_WORDS = [
    *FUNCTIONS,
    *NAMES,
    "and",
    "or",
    "not",
    "in",
    "(",
    ")",
    "[",
    "]",
    ",",
    "==",
    "<",
    "-",
    "*",
    "1",
    "'a'",
    "days=",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=30).map(" ".join) | st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused(source: str) -> None:
    """Nothing but a fault with a place within the text, and what is read can be asked."""
    expression, problem, at = None, "", 0
    try:
        expression = read(source)
    except ExpressionFault as fault:
        problem, at = fault.problem, fault.at
    if expression is None:
        assert problem
        assert 0 <= at <= len(source)
        return
    assert 0 < expression.cost <= 5 * MAX_NODES * 2
    evaluate(expression, View(EMPTY, 1_700_000_000_000, BUILT_IN), lambda _: Seen(False), {})
