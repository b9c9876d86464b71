"""The words of a push: a shop's templates, rendered in Jinja2's sandbox."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType, MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tidings_core.errors import InvalidInput
from tidings_core.events import Event, EventItem, EventType

MAX_TITLE_BYTES = 256
MAX_BODY_BYTES = 2048
MAX_URL_BYTES = 2048
MAX_RENDERED = 16_384
"""Characters. Rendering stops there: a loop gone wrong fills no memory."""
MAX_SOURCE = 4096
"""Characters of one template."""
MAX_PRODUCT = 16_384
"""Length of a text or list, or bits of a whole number, that `*` and `**` may make."""
MAX_STEPS = 10_000
"""Lines of a template's own code that a check runs: a loop that prints nothing ends too."""
VARIABLES = ("item", "items", "because", "query", "category", "event", "tag")
"""What a template knows: see `Composer.compose`."""
_FILE = "<template>"
"""What Jinja2 calls a template that came as a text, in the frames of an error."""


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item as a template sees it: the catalogue's display fields, "" or empty where it has none; price may be None.

    `categories` go from broad to narrow.
    """

    item_id: str
    title: str = ""
    description: str = ""
    categories: tuple[str, ...] = ()
    brand: str = ""
    price: float | None = None
    currency: str = ""
    image_url: str = ""
    url: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Words:
    """A template as its author wrote it: the Jinja2 sources of title, body and url."""

    title: str
    body: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """What a template gave: a title of 1 to 256 bytes, a body of at most 2048, a url of at most 2048; valid UTF-8."""

    title: str
    body: str
    url: str


class _Sandbox(ImmutableSandboxedEnvironment):
    """No loader, so nothing can be included; no names but those of a push; no products that fill the memory.

    It catches mistakes. A shop's templates are its own: nothing here holds against one that means to do harm.
    """

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        # A push is plain text, so nothing is escaped for HTML. What is not there prints as nothing, not as "None".
        super().__init__(
            undefined=StrictUndefined, autoescape=False, finalize=lambda value: "" if value is None else value
        )
        self.globals.pop("lipsum")  # Random text, in Latin.

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply, or raise to a power. Raises OverflowError when too much would come of it."""
        if _product(operator, left, right) > MAX_PRODUCT:
            raise OverflowError(f"{operator} makes more than {MAX_PRODUCT} characters, entries or bits")
        return super().call_binop(context, operator, left, right)


class Composer:
    """Renders pushes from templates, which were checked before any push needs them."""

    def __init__(self, templates: Mapping[str, Words]) -> None:
        """Compile templates by name. Raises InvalidInput naming every template, field and line that is at fault."""
        sandbox = _Sandbox()
        self._compiled: dict[str, Mapping[str, Template]] = {}
        faults: list[tuple[str, str]] = []
        for name, words in templates.items():
            compiled: dict[str, Template] = {}
            for part, source in (("title", words.title), ("body", words.body), ("url", words.url)):
                try:
                    compiled[part] = sandbox.from_string(source)
                except TemplateSyntaxError as error:
                    faults.append((f"template.{name}.{part}", f"line {error.lineno}: {error.message}"))
                except Exception as error:  # Whatever a template's author can make of a compiler.
                    faults.append((f"template.{name}.{part}", f"cannot be compiled: {error}"))
            self._compiled[name] = MappingProxyType(compiled)
        if faults:
            raise InvalidInput(*faults)

    def compose(self, template: str, event: Event, because: ShownItem | None, items: Sequence[ShownItem]) -> Composed:
        """The words of a push about `items` (best first, at least one), which `event` called for.

        The template sees `items`, the first of them as `item`, `because` (the first item of the event that is known,
        None when there is none), `query` and `category` of the event, its type as `event`, and of a tag that came or
        went the `tag`. Texts too long are cut.
        Raises InvalidInput naming template, field and line.
        """
        values = {
            "item": items[0],
            "items": tuple(items),
            "because": because,
            "query": event.query,
            "category": event.category,
            "event": event.type,
            "tag": event.tag,
        }
        title, body, url = (self._render(template, part, values) for part in ("title", "body", "url"))
        title, body, url = plain_line(title), _plain_text(body), url.strip()
        if not title:
            raise InvalidInput((f"template.{template}.title", "line 1: nothing is left to say: the title is empty"))
        if len(url.encode()) > MAX_URL_BYTES or _plain(url, "") != url:
            raise InvalidInput(
                (f"template.{template}.url", f"line 1: more than {MAX_URL_BYTES} bytes, or a control character")
            )
        return Composed(cut(title, MAX_TITLE_BYTES), cut(body, MAX_BODY_BYTES), url)

    def check(self, template: str, type: EventType | None = None) -> None:
        """Render sample pushes for an event of a type; None: one that has everything.

        Three items and one, items that have only a title, and an item of the event that the release has and one that it
        has not: a template must do for all. Raises InvalidInput, also when it takes more than 10,000 steps.
        """
        event = Event("sample", type or "view", "sample", 0, (EventItem("sample"),), "sample", "sample", tag="sample")
        if type is not None:
            event = replace(
                event,
                query="sample" if type == "search" else "",
                category="sample" if type == "view" else "",
                items=() if type in ("search", "tag", "cancel") else event.items,
                tag="sample" if type == "tag" else "",
            )
        because, items = SAMPLE if event.items else None, (SAMPLE, SAMPLE, SAMPLE)
        with _few_steps():
            self.compose(template, event, because, items)
        faults: list[tuple[str, str]] = []
        bare = because and BARE
        others = ((GUARD_BECAUSE, None, items), (GUARD_ITEMS, because, items[:1]), (GUARD_BARE, bare, (BARE,) * 3))
        for way_out, about, shown in others:
            try:
                with _few_steps():
                    self.compose(template, event, about, shown)
            except InvalidInput as error:
                faults += [(where, f"{problem}; {way_out}") for where, problem in error.violations]
        if faults:
            raise InvalidInput(*faults)

    def _render(self, template: str, part: str, values: Mapping[str, Any]) -> str:
        try:
            return "".join(_bounded(self._compiled[template][part].generate(values)))
        except Exception as error:  # A template can raise anything, and none of it may end a decision.
            raise InvalidInput((f"template.{template}.{part}", f"line {_line(error)}: {_what(error)}")) from error


GUARD_BECAUSE = (
    "because is none when the release does not have the event's item: write "
    "{% if because %}…{{ because.title }}…{% else %}…{% endif %}"
)
GUARD_ITEMS = "a push may be about one item alone: write {% if items | length > 1 %}…{{ items[1].title }}…{% endif %}"
GUARD_BARE = (
    "an item may have no price and no categories: write {% if item.price is not none %}…{{ item.price }}…{% endif %}, "
    "{% if item.categories %}…{{ item.categories[-1] }}…{% endif %}"
)
BARE = ShownItem(item_id="sample", title="Sample")
SAMPLE = ShownItem(
    item_id="sample",
    title="Sample",
    description="Sample",
    categories=("Sample", "Sample"),
    brand="Sample",
    price=9.5,
    currency="EUR",
    image_url="https://shop.example/sample.jpg",
    url="https://shop.example/sample",
)


def cut(text: str, most: int) -> str:
    """A text of at most `most` bytes of UTF-8; one that was longer ends with an ellipsis."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: most - len(ellipsis.encode())].decode(errors="ignore").rstrip() + ellipsis


def plain_line(text: str) -> str:
    """A text in one line: every control character is a space, and no space follows another."""
    return " ".join(_plain(text, " ").split())


def _plain_text(text: str) -> str:
    """A text without control characters, but with its line breaks."""
    return "\n".join(_plain(line, " ").strip() for line in text.strip().replace("\r\n", "\n").split("\n"))


def _plain(text: str, instead: str) -> str:
    if text.isprintable():
        return text
    return "".join(instead if char < " " or "\x7f" <= char <= "\x9f" else char for char in text)


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    left = MAX_RENDERED
    for part in parts:
        yield part[:left]
        left -= len(part)
        if left <= 0:
            return


@contextmanager
def _few_steps() -> Iterator[None]:
    """Ends a rendering, with an error, after so many lines of the template's own code in this thread."""
    left = MAX_STEPS

    def step(frame: FrameType, what: str, argument: object) -> Any:  # noqa: ARG001 - as sys.settrace calls it
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError(f"takes more than {MAX_STEPS} steps: are there loops within loops?")
        return step

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: step if frame.f_code.co_filename == _FILE else None)
    try:
        yield
    finally:
        sys.settrace(before)


def _product(operator: str, left: Any, right: Any) -> int:
    """About how long a product is: characters or entries, or the bits of a whole number; 0 for what stays small."""
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
    for text, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(text, Sequence) and isinstance(times, int):
            return len(text) * times
    return 0


_NO_ATTRIBUTE = re.compile(r"'(?:dict|mappingproxy) object' has no attribute '(.*)'")


def _what(error: Exception) -> str:
    """What an error of a template says, in the words of its author."""
    what = (str(error) or type(error).__name__).replace(f"'{ShownItem.__module__}.ShownItem object'", "an item")
    missing = _NO_ATTRIBUTE.fullmatch(what)
    if missing is None:
        return what
    return f"no attribute {missing[1]!r}, which not every item has: write item.attributes.get({missing[1]!r}, '')"


def _line(error: BaseException) -> int:
    """Line of the template that an error came from. Jinja2 puts the template's own frames into the traceback."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
