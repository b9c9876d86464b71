"""The tables [trigger.NAME] and [template.NAME] of the settings: which events call for a push, and how it is said."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from tidings_core.changes import base_of
from tidings_core.declared import Declarations
from tidings_core.errors import InvalidInput
from tidings_core.events import EVENT_TYPES, NEVER, EventType
from tidings_core.expressions import MAX_LENGTH, ExpressionFault, place
from tidings_core.faults import text_fault
from tidings_core.model import MAX_ID_BYTES
from tidings_core.preferences import MAX_TOPIC_BYTES
from tidings_core.privacy import EVERYTHING, PrivacyRules, may_target
from tidings_core.profile import RECENT
from tidings_core.tags import Rule, attributes_of, follows_pushes, read_by, read_condition, with_all_asked
from tidings_core.triggers import Trigger
from tidings_server.application.compose import MAX_SOURCE, VARIABLES, Composer, Words

MAX_PUSHED = 20
"""Items of one push."""
MAX_SECONDS = 30 * 86_400
TOLD = "told"
"""Type of a fault whose message says all."""


def _event(given: Any) -> Any:
    if given in NEVER:
        raise ValueError(f"it follows from pushes and starts no trigger: {', '.join(NEVER)} never do")
    if given not in EVENT_TYPES and given != "tag":
        known = [*(type for type in EVENT_TYPES if type not in NEVER), "tag"]
        raise ValueError(f"no such event; known are {', '.join(known)}")
    return given


def _key(given: str) -> str:
    fault = text_fault(given, MAX_ID_BYTES)
    if fault:
        raise ValueError(fault)
    return given


def _topic(given: str) -> str:
    fault = text_fault(given, MAX_TOPIC_BYTES)
    if fault:
        raise ValueError(fault)
    return given


Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


class TriggerTable(BaseModel):
    """A table [trigger.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: Annotated[EventType, BeforeValidator(_event)] = Field(description="Type of event that calls for a push.")
    serving_config: str = Field(description="Serving config that recommends what is pushed.")
    template: str = Field(description="Template that says it.")
    of: Literal["any", "item", "category"] = Field("any", description="What the event must be of: any, item, category.")
    count: int = Field(1, ge=1, le=RECENT, description=f"So many events call for one push, 1 to {RECENT}.")
    within_seconds: Seconds = Field(1800.0, gt=0, description="Seconds within which they must happen.")
    same: bool = Field(False, description="Whether they must share an item, or the category.")
    cooldown_seconds: Seconds = Field(0.0, description="Seconds from a push to the next of this trigger for one user.")
    max_age_seconds: Seconds = Field(3600.0, gt=0, description="An event older than this calls for nothing.")
    k: int = Field(3, ge=1, le=MAX_PUSHED, description=f"Items of one push at most, 1 to {MAX_PUSHED}.")
    ttl_seconds: float = Field(
        86_400.0, ge=1, le=MAX_SECONDS, allow_inf_nan=False, description="Seconds that the push is of use."
    )
    collapse_key: Annotated[str, AfterValidator(_key)] = Field(
        "", description="A push takes the place of one with the same key that was not acknowledged; empty for none."
    )

    topic: Annotated[str, AfterValidator(_topic)] = Field(
        "", description="What the push is about: people can turn topics off; empty for no topic."
    )
    tag: Annotated[str, AfterValidator(_key)] = Field(
        "", description='Of the event tag: which, such as "lifecycle:lapsing", or any of a family, such as "lifecycle".'
    )
    move: Literal["entered", "left"] = Field("entered", description="Whether the tag must have come or gone.")
    when: str = Field("", max_length=MAX_LENGTH, description="Expression that must hold of the user; empty for none.")

    def trigger(self, name: str, declared: Declarations) -> Trigger:
        """The trigger that this table, which has no faults, describes."""
        when = read_condition(self.when, declared) if self.when else None
        return Trigger(name, **{**self.model_dump(), "when": when})


class TemplateTable(BaseModel):
    """A table [template.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1, max_length=MAX_SOURCE, description="One line, as a Jinja2 template.")
    body: str = Field("", max_length=MAX_SOURCE, description="A sentence or two, as a Jinja2 template.")
    url: str = Field("", max_length=MAX_SOURCE, description="Address to open, as a Jinja2 template.")

    @property
    def words(self) -> Words:
        """The template's sources."""
        return Words(self.title, self.body, self.url)


def sensitive_fault(names: Sequence[str]) -> str:
    """What is wrong with going by sensitive attributes, "" for none."""
    return f"goes by {' and '.join(names)}: sensitive, and not among privacy.allow_sensitive" if names else ""


@dataclass(frozen=True, slots=True)
class People:
    """What can be asked of a user: the attributes there are, and the rules that give tags, in order."""

    declared: Declarations
    rules: Sequence[Rule]
    privacy: PrivacyRules = EVERYTHING

    def barred(self, attributes: Collection[str]) -> str:
        """What is wrong with going by attributes when people are singled out, "" for nothing."""
        known = (self.declared[name] for name in sorted(attributes) if name in self.declared)
        return sensitive_fault([one.name for one in known if not may_target(one, self.privacy)])


def templates_checked(tables: dict[str, TemplateTable]) -> dict[str, TemplateTable]:
    """The tables as they are, each of them compiled and rendered with a sample. Raises ValidationError."""
    refuse(fault for name, table in tables.items() for fault in _template_faults(name, table))
    return tables


def triggers_checked(
    triggers: dict[str, TriggerTable],
    templates: Mapping[str, TemplateTable] | None,
    servings: set[str] | None,
    people: People | None,
) -> dict[str, TriggerTable]:
    """The tables as they are, if what they name is there and fits their events. Raises ValidationError.

    `templates`, `servings` and `people` are None when it is not known what is there, since they have faults of their
    own.
    """
    if people is not None:
        refuse(fault for name, table in triggers.items() for fault in _people_faults(name, table, people))
    refuse(fault for name, table in triggers.items() for fault in _trigger_faults(name, table, templates, servings))
    return triggers


def _people_faults(name: str, table: TriggerTable, people: People) -> Iterator[tuple[tuple[str, ...], str]]:
    if table.when:
        try:
            barred = people.barred(read_by(read_condition(table.when, people.declared), people.rules))
            if barred:
                yield (name, "when"), barred
        except ExpressionFault as fault:
            line, column = place(table.when, fault.at)
            yield (name, "when"), f"line {line}, column {column}: {fault.problem}"
    if (table.event == "tag") != bool(table.tag):
        said = "is missing: name a tag" if table.event == "tag" else f"is for the event tag, not for a {table.event}"
        yield (name, "tag"), said
    if barred := people.barred(attributes_of([table.tag], people.rules)):
        yield (name, "tag"), f"is {table.tag!r}, which {barred}"
    asked = with_all_asked([base_of(table.tag)], people.rules)
    following = sorted({type for rule in asked for type in follows_pushes(rule)})
    if following:
        said = f"counts {' and '.join(following)}, which follow from pushes: a decision never leads to a decision"
        yield (name, "tag"), f"is {table.tag!r}, which {said}"


def _template_faults(name: str, table: TemplateTable) -> Iterator[tuple[tuple[str, ...], str]]:
    # Part by part, so that a fault of one hides none of another.
    for part in (Words(table.title), Words("-", body=table.body), Words("-", url=table.url)):
        try:
            Composer({name: part}).check(name)
        except InvalidInput as error:
            for field, problem in error.violations:
                known = f"; a template knows {', '.join(VARIABLES)}" if "is undefined" in problem else ""
                yield (name, field.rpartition(".")[2]), problem + known


def _trigger_faults(
    name: str, table: TriggerTable, templates: Mapping[str, TemplateTable] | None, servings: set[str] | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    if table.of == "category" and table.event != "view":
        yield (name, "of"), f"is 'category', which a {table.event} never has: only a view may name one"
    if table.event == "tag":
        for field, bare in (("of", "any"), ("count", 1), ("same", False)):
            if getattr(table, field) != bare:
                yield (name, field), "is for what users do, and a tag comes or goes: leave it out"
    if table.event in ("search", "cancel"):
        if table.of == "item":
            yield (name, "of"), f"is 'item', which a {table.event} never has: leave it out"
        if table.same:
            said = f"is true, but a {table.event} has neither items nor a category to share: leave it out"
            yield (name, "same"), said
    if servings is not None and table.serving_config not in servings:
        yield (name, "serving_config"), f"is {table.serving_config!r}: not known; known are {_names(servings)}"
    if templates is None:
        return
    if table.template not in templates:
        known = _names(templates) if templates else "none: add a table [template.NAME]"
        yield (name, "template"), f"is {table.template!r}: not known; known are {known}"
        return
    try:
        Composer({table.template: templates[table.template].words}).check(table.template, table.event)
    except InvalidInput as error:
        # A search has no item it is about, a purchase no query: what fits one event may fail another.
        for field, problem in error.violations:
            yield (name, "template"), f"is {table.template!r}, which fails for a {table.event}: {field}: {problem}"


def _names(names: Mapping[str, Any] | set[str]) -> str:
    return ", ".join(sorted(names))[:300]


def refuse(faults: Iterable[tuple[tuple[str | int, ...], str]]) -> None:
    """Raise a ValidationError of all faults, each a place and what is wrong there, if there are any."""
    found = [
        InitErrorDetails(type=PydanticCustomError(TOLD, "{said}", {"said": said}), loc=loc, input=None)
        for loc, said in faults
    ]
    if found:
        raise ValidationError.from_exception_data("settings", found)
