"""Words of a push: what templates see, what they may not do, and how long they may get."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.errors import InvalidInput
from tidings_core.events import Event, EventItem, EventType
from tidings_server.application.compose import (
    MAX_BODY_BYTES,
    MAX_TITLE_BYTES,
    SAMPLE,
    Composed,
    Composer,
    ShownItem,
    Words,
    cut,
)

PHONE = ShownItem(
    "phone-1", "Aurora 3", "A phone", ("Electronics", "Phones"), "Aurora", 499.5, "EUR", url="https://shop.example/p1"
)
CASE = ShownItem("case-1", "Case <b>& more</b>", categories=("Electronics",))
BARE = ShownItem("bare-1")
PURCHASE = Event("e", "purchase", "ann", 0, (EventItem("phone-1"),))


def composed(
    title: str, body: str = "", url: str = "", event: Event = PURCHASE, because: ShownItem | None = PHONE
) -> Composed:
    """What a template makes of a push of a case and a bare item."""
    return Composer({"t": Words(title, body, url)}).compose("t", event, because, (CASE, BARE))


def fault(title: str, body: str = "", url: str = "") -> tuple[str, str]:
    """The one thing wrong with a template."""
    with pytest.raises(InvalidInput) as refused:
        composed(title, body, url)
    ((field, problem),) = refused.value.violations
    return field, problem


def test_a_template_sees_items_event_and_what_it_was_about() -> None:
    """Every variable, every display field; plain text, so nothing is escaped."""
    made = composed(
        "For your {{ because.title }} ({{ event }}): {{ item.title }}",
        "{{ items | map(attribute='item_id') | join(', ') }}; {{ because.categories[-1] }}, {{ because.brand }}, "
        "{{ '%.2f' | format(because.price) }} {{ because.currency }}{{ item.price }}",
        "{{ because.url }}?push=1",
    )
    assert made.title == "For your Aurora 3 (purchase): Case <b>& more</b>"
    assert made.body == "case-1, bare-1; Phones, Aurora, 499.50 EUR"
    assert made.url == "https://shop.example/p1?push=1"
    search = Event("e", "search", "ann", 0, query="智能手表")
    assert composed("{{ query }}{{ category }}", event=search).title == "智能手表"
    assert composed("{{ category }}", event=Event("e", "view", "ann", 0, category="Fashion")).title == "Fashion"


def test_a_template_may_ask_whether_the_event_was_about_a_known_item() -> None:
    """`because` is None when the release has none of the event's items."""
    template = "{% if because %}For your {{ because.title }}{% else %}For you{% endif %}"
    assert composed(template).title == "For your Aurora 3"
    assert composed(template, because=None).title == "For you"


@pytest.mark.parametrize(
    ("title", "body", "field", "said"),
    [
        ("{% if %}", "", "title", "line 1"),
        ("a", "a\n\n{% for %}", "body", "line 3"),
        ("{{ nobody }}", "", "title", "line 1: 'nobody' is undefined"),
        ("a", "a\n{{ item.titel }}", "body", "line 2: an item has no attribute 'titel'"),
        ("{{ items[7].title }}", "", "title", "no element 7"),
        ("{{ item.attributes.colour }}", "", "title", "no attribute 'colour'"),
        ("{{ 1 / 0 }}", "", "title", "division by zero"),
        ("{{ item.title | shout }}", "", "title", "No filter named 'shout'"),
        ("{% include 'x' %}", "", "title", "no loader"),
        ("{% import 'x' as x %}", "", "title", "no loader"),
        ("{{ ''.__class__.__mro__ }}", "", "title", "unsafe"),
        ("{{ item.__class__ }}", "", "title", "unsafe"),
        ("{{ range(1000000) | list }}", "", "title", "Range too big"),
        ("{{ item.attributes.update({'a': 'b'}) }}", "", "title", "unsafe"),
        ("{{ None }}", "", "title", "nothing is left to say"),
        (" \n\t", "", "title", "nothing is left to say"),
    ],
)
def test_a_template_at_fault_is_named_with_part_and_line(title: str, body: str, field: str, said: str) -> None:
    """Syntax, unknown names, what the sandbox forbids, an empty title: each is an InvalidInput and no other error."""
    where, problem = fault(title, body)
    assert where == f"template.t.{field}"
    assert problem.startswith("line ")
    assert said in problem


def test_a_url_that_is_too_long_or_holds_a_line_break_is_a_fault() -> None:
    """A url cut short would lead elsewhere, so it is never cut."""
    assert fault("a", url="https://shop.example/" + "x" * 2048)[0] == "template.t.url"
    assert fault("a", url="https://shop.example/\nb")[0] == "template.t.url"
    assert composed("a", url=" https://shop.example/ ").url == "https://shop.example/"


def test_every_template_that_does_not_compile_is_named_at_once() -> None:
    """Whoever mends a file sees all of it."""
    with pytest.raises(InvalidInput) as refused:
        Composer({"a": Words("{{", "{%"), "b": Words("fine"), "c": Words("x", url="{{ }}")})
    assert [field for field, _ in refused.value.violations] == ["template.a.title", "template.a.body", "template.c.url"]


def test_a_loop_gone_wrong_ends_soon() -> None:
    """Rendering is bounded, not only its result."""
    body = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}xyz{% endfor %}"
    assert len(composed("a", body + "{% endfor %}{% endfor %}").body.encode()) == MAX_BODY_BYTES


@pytest.mark.parametrize("type", ["purchase", "add_to_cart", "view", "search", "rating", None])
def test_a_sample_has_what_an_event_of_its_type_has(type: EventType | None) -> None:
    """A search was about no item, only a search has a query; the sample of no type has everything."""
    composer = Composer({"query": Words("{{ query[0] }}"), "plain": Words("{{ item.title }}{{ query }}")})
    composer.check("plain", type)
    if type in ("search", None):
        composer.check("query", type)
    else:
        with pytest.raises(InvalidInput, match="no element 0"):
            composer.check("query", type)


def found_by_check(title: str, type: EventType | None = None) -> list[str]:
    """What a check finds wrong with a title."""
    composer = Composer({"t": Words(title)})
    try:
        composer.check("t", type)
    except InvalidInput as error:
        return [problem for field, problem in error.violations if field == "template.t.title"]
    return []


@pytest.mark.parametrize(
    ("careless", "guarded", "way_out"),
    [
        ("{{ because.title }}", "{% if because %}{{ because.title }}{% else %}For you{% endif %}", "{% if because %}"),
        ("{% if because %}New{% endif %}", "{% if because %}New{% else %}For you{% endif %}", "{% if because %}"),
        (
            "{{ item.title }}, {{ items[1].title }}",
            "{{ item.title }}{% if items | length > 1 %}, {{ items[1].title }}{% endif %}",
            "{% if items | length > 1 %}",
        ),
        (
            "{{ '%.2f' | format(item.price) }}",
            "a {% if item.price is not none %}{{ '%.2f' | format(item.price) }}{% endif %}",
            "{% if item.price is not none %}",
        ),
        (
            "{{ item.categories[-1] }}",
            "a {% if item.categories %}{{ item.categories[-1] }}{% endif %}",
            "{% if item.categories %}",
        ),
        ("{{ item.attributes.colour }}", "a {{ item.attributes.get('colour', '') }}", "get('colour', '')"),
        ("{{ item.attributes['colour'] }}", "a {{ item.attributes.get('colour', '') }}", "get('colour', '')"),
    ],
)
@pytest.mark.parametrize("type", ["purchase", None])
def test_a_check_finds_what_some_pushes_lack_and_says_how_to_guard_it(
    careless: str, guarded: str, way_out: str, type: EventType | None
) -> None:
    """An item of the event that the release has, a second item, a price, an attribute: none is there every time."""
    (problem,) = found_by_check(careless, type)
    assert problem.startswith("line 1: ")
    assert way_out in problem
    assert found_by_check(guarded, type) == []


def test_a_check_names_all_that_is_not_guarded_at_once() -> None:
    """Two different things missing in one line are two faults."""
    problems = found_by_check("{{ because.title }}{{ items[1].title }}")
    assert ["because is none" in problem for problem in problems] == [True, False]
    assert ["one item alone" in problem for problem in problems] == [False, True]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("{{ 'a' * 10**9 }}", "* makes more than 16384"),
        ("{{ 10**9 * 'a' }}", "* makes more than 16384"),
        ("{{ items * 10**8 }}", "* makes more than 16384"),
        ("{{ 10**(10**8) }}", "** makes more than 16384"),
        ("{{ (10**4000) * (10**4000) }}", "* makes more than 16384"),
        ("{% for a in range(10**9) %}{% endfor %}x", "Range too big"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x", "10000 steps"),
        ("{% for a in range(99999) %}{{ a }}{% endfor %}", "10000 steps"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    ],
)
def test_a_check_of_a_template_gone_wrong_ends_soon(title: str, said: str) -> None:
    """What would fill the memory, or go on for hours without a word, is a fault with its line."""
    (problem,) = found_by_check(title)
    assert problem.startswith("line 1: ")
    assert said in problem


def test_a_check_leaves_tracing_as_it_was() -> None:
    """A debugger, or what measures coverage, goes on after it."""

    def trace(*_: object) -> None: ...

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert found_by_check("{% for a in range(99999) %}{% endfor %}") != []
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is trace


def test_a_template_may_calculate() -> None:
    """Products of a sensible size are what they are."""
    assert composed("{{ 3 * 4 }} {{ 1.5 * 2 }} {{ '-' * 5 }} {{ 2**10 }} {{ 2**-1 }}").title == "12 3.0 ----- 1024 0.5"


@given(st.text(max_size=1000), st.text(max_size=4000), st.lists(st.text(max_size=200), max_size=4))
def test_whatever_a_shop_writes_the_words_are_plain_and_short(title: str, body: str, categories: list[str]) -> None:
    """At most 256 and 2048 bytes of valid UTF-8, no control characters but line breaks in the body."""
    item = ShownItem("i", "a" + title, body, tuple(categories))
    composer = Composer({"t": Words("{{ item.title }}", "{{ item.description }}{{ item.categories | join(' / ') }}")})
    made = composer.compose("t", PURCHASE, None, (item,))
    assert 1 <= len(made.title.encode()) <= MAX_TITLE_BYTES
    assert len(made.body.encode()) <= MAX_BODY_BYTES
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in made.title + made.body.replace("\n", ""))


@given(st.text(max_size=300), st.integers(3, 300))
def test_a_cut_text_is_its_beginning(text: str, most: int) -> None:
    """What fits stays whole; what does not ends with an ellipsis and is valid UTF-8 of so many bytes at most."""
    short = cut(text, most)
    assert len(short.encode()) <= most
    if len(text.encode()) <= most:
        assert short == text
    else:
        assert short.endswith("…")
        assert text.startswith(short[:-1])


def test_a_template_cannot_change_what_it_sees() -> None:
    """Two pushes share the items of one release."""
    before = SAMPLE
    with pytest.raises(InvalidInput):
        composed("{% set item.title = 'x' %}{{ item.title }}")
    with pytest.raises(InvalidInput):
        composed("{{ items.append(1) }}")
    assert before == SAMPLE
