"""The words of a push: a shop's templates, rendered in Jinja2's sandbox."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tidings_core.errors import InvalidInput
from tidings_core.events import Event, EventItem, EventType

MAX_TITLE_BYTES = 256
MAX_BODY_BYTES = 2048
MAX_URL_BYTES = 2048
MAX_RENDERED = 16_384
"""Characters. Rendering stops there: a loop gone wrong fills no memory."""
VARIABLES = ("item", "items", "because", "query", "category", "event")
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
    """No loader, so nothing can be included; no names but those of a push."""

    def __init__(self) -> None:
        # A push is plain text, so nothing is escaped for HTML. What is not there prints as nothing, not as "None".
        super().__init__(
            undefined=StrictUndefined, autoescape=False, finalize=lambda value: "" if value is None else value
        )
        self.globals.pop("lipsum")  # Random text, in Latin.


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
        None when there is none), `query` and `category` of the event, and its type as `event`. Texts too long are cut.
        Raises InvalidInput naming template, field and line.
        """
        values = {
            "item": items[0],
            "items": tuple(items),
            "because": because,
            "query": event.query,
            "category": event.category,
            "event": event.type,
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
        """Render a sample push for an event of a type; None: one that has everything. Raises InvalidInput."""
        event = Event("sample", type or "view", "sample", 0, (EventItem("sample"),), "sample", "sample")
        if type is not None:
            event = replace(
                event,
                query="sample" if type == "search" else "",
                category="sample" if type == "view" else "",
                items=() if type == "search" else event.items,
            )
        self.compose(template, event, SAMPLE if event.items else None, (SAMPLE, SAMPLE, SAMPLE))

    def _render(self, template: str, part: str, values: Mapping[str, Any]) -> str:
        try:
            return "".join(_bounded(self._compiled[template][part].generate(values)))
        except Exception as error:  # A template can raise anything, and none of it may end a decision.
            what = str(error).replace(f"'{ShownItem.__module__}.ShownItem object'", "an item")
            raise InvalidInput((f"template.{template}.{part}", f"line {_line(error)}: {what}")) from error


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


def _line(error: BaseException) -> int:
    """Line of the template that an error came from. Jinja2 puts the template's own frames into the traceback."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
