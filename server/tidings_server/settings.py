"""Settings: a TOML file, the environment (TIDINGS_LISTEN and so on) and the command line; the last one wins."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings.exceptions import SettingsError

from tidings_core.declared import Declarations
from tidings_core.errors import InvalidInput
from tidings_core.model import SERVING_CONFIGS, Diversity, ServingConfig, SourceUse
from tidings_core.privacy import EVERYTHING
from tidings_core.sources import SOURCES
from tidings_core.tags import Rule
from tidings_core.triggers import Trigger
from tidings_server.application.compose import Words
from tidings_server.attribute_settings import MAX_ATTRIBUTES, AttributeTable, attributes_checked, declarations
from tidings_server.cleaning_settings import EVERYBODY_COUNTS, CleaningTable, WhoseTable, cleaning_checked
from tidings_server.exploration_settings import ExplorationTable, OptionalExploration, exploration_over
from tidings_server.filter_settings import CheckedFilter, ConditionTable, FilterTable, NumberTable, TimeTable
from tidings_server.privacy_settings import PrivacyTable, RetentionTable
from tidings_server.push_settings import (
    TOLD,
    People,
    TemplateTable,
    TriggerTable,
    refuse,
    templates_checked,
    triggers_checked,
)
from tidings_server.tag_settings import TagTable, rules_of, tags_checked, with_lines


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen on. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def with_port(self, port: int) -> "Address":
        """The same host with the port that was really taken."""
        return Address(self.host, port)


def _address(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s/]+)):(\d{1,5})", given)
    if match is None or int(match[3]) > 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, with a port of 0 to 65535")
    return Address(match[1] or match[2], int(match[3]))


def _source(given: str) -> str:
    if given not in SOURCES:
        raise ValueError(f"no such source; known are {', '.join(SOURCES)}")
    return given


def _sources_of(given: tuple["SourceTable", ...] | None) -> tuple["SourceTable", ...] | None:
    names = [use.name for use in given or ()]
    if given == () or len(set(names)) < len(names):
        raise ValueError("must name at least one source, and each once")
    return given


ListenAddress = Annotated[Address, BeforeValidator(_address)]


class SourceTable(BaseModel):
    """One entry of a serving config's `sources`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, BeforeValidator(_source)] = Field(description="Name of a candidate source.")
    k: int = Field(ge=1, le=1000, description="Number of items it proposes, 1 to 1000.")
    weight: float = Field(1.0, ge=0, le=1000, allow_inf_nan=False, description="Its weight when there is no ranker.")


class DiversityTable(BaseModel):
    """A serving config's `diversity`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attribute: str = Field(min_length=1, description="Attribute of the catalogue, such as category or brand.")
    max_per_value: int = Field(ge=1, le=1000, description="Items with one value before any other has its turn.")


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
AttributeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""As an expression names it."""

OptionalDiversity = Annotated[
    Annotated[DiversityTable, Tag("table")] | Annotated[Literal[False], Tag("switch")],
    Discriminator(lambda given: "switch" if isinstance(given, bool) else "table"),
]


OptionalFilter = Annotated[
    Annotated[CheckedFilter, Tag("table")] | Annotated[Literal[False], Tag("switch")],
    Discriminator(lambda given: "switch" if isinstance(given, bool) else "table"),
]


class ServingTable(BaseModel):
    """A table [serving.NAME]. What it leaves out stays as it is in the built-in config of that name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: Annotated[tuple[SourceTable, ...] | None, AfterValidator(_sources_of)] = Field(
        None, description="Sources that propose items."
    )
    rerank: bool | None = Field(None, description="Whether the release's ranker scores what they propose.")
    exclude_bought: bool | None = Field(None, description="Whether items the user bought are left out.")
    diversity: OptionalDiversity | None = Field(None, description="A spread of values; false for none.")
    exclude_seen: bool | None = Field(None, description="Whether items the user has seen lately are left out.")
    complements: bool | None = Field(None, description="Whether the first is of another category than the context.")
    within_category: bool | None = Field(
        None, description="Whether a query that names a category gets only items of it."
    )
    filter: OptionalFilter | None = Field(None, description="What every item must be; false for anything.")
    exploration: OptionalExploration | None = Field(
        None, description="Chances for items that would not be in the answer; false for none."
    )

    def over(self, name: str, built_in: ServingConfig | None) -> ServingConfig:
        """The serving config that this table makes of the built-in one of its name, if there is one."""
        start = built_in or ServingConfig(name, ())
        sources = tuple(SourceUse(use.name, use.k, use.weight) for use in self.sources or ())
        diversity = start.diversity
        if isinstance(self.diversity, DiversityTable):
            diversity = Diversity(self.diversity.attribute, self.diversity.max_per_value)
        elif self.diversity is False:
            diversity = None
        wanted = start.filter
        if isinstance(self.filter, FilterTable):
            wanted = self.filter.filter
        elif self.filter is False:
            wanted = None
        return ServingConfig(
            name,
            sources or start.sources,
            start.rerank if self.rerank is None else self.rerank,
            start.exclude_bought if self.exclude_bought is None else self.exclude_bought,
            diversity,
            start.exclude_seen if self.exclude_seen is None else self.exclude_seen,
            start.complements if self.complements is None else self.complements,
            start.within_category if self.within_category is None else self.within_category,
            wanted,
            exploration_over(self.exploration, start.exploration),
        )


class Settings(BaseSettings):
    """Everything that can be set. Field names are those of the file; TIDINGS_ and upper case make the environment's."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_", extra="forbid", frozen=True)

    releases: Path = Field(Path("releases"), description="Directory that releases are built into.")
    state: Path = Field(Path("state"), description="Directory for what this server remembers. Made when missing.")
    listen: ListenAddress = Field(Address("127.0.0.1", 50051), description="Address of the gRPC listener.")
    http: ListenAddress = Field(
        Address("127.0.0.1", 9464), description="Address of /metrics, /livez and /readyz over HTTP."
    )
    front: Literal["grpcio", "native"] = Field(
        "grpcio", description="What speaks gRPC: grpcio, or native, which is faster and needs pygrpc-native."
    )
    default_deadline_ms: int = Field(
        1000, ge=1, le=600_000, description="Deadline in milliseconds of a recommendation whose caller sets none."
    )
    max_waiting: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Calls that may wait for a moment; more are refused at once with RESOURCE_EXHAUSTED, and so are "
        "calls that would wait too long.",
    )
    max_pending: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Calls that the front grpcio has not yet looked at; it cuts off more, without a word.",
    )
    max_batch: int = Field(32, ge=1, le=256, description="Calls that are answered together at most.")
    max_message_bytes: int = Field(
        4 << 20, ge=1024, le=256 << 20, description="Bytes of one request at most; larger ones are refused."
    )
    drain_seconds: float = Field(
        10.0, ge=0, le=3600, allow_inf_nan=False, description="Seconds that calls under way get to end on SIGTERM."
    )
    compute_threads: int = Field(1, ge=1, le=256, description="Threads that compute answers.")
    log_format: Literal["console", "json"] = Field(
        "console", description="Lines for people or for machines: console, json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged: debug, info, warning, error. None shows user ids."
    )
    push_max_per_day: int = Field(5, ge=0, le=1000, description="Pushes that one user gets in 24 hours at most.")
    push_ttl_seconds: float = Field(
        86_400.0,
        ge=1,
        le=30 * 86_400,
        allow_inf_nan=False,
        description="Seconds that a push sent by SendPush is of use, when its sender does not say.",
    )
    push_history: int = Field(200, ge=1, le=10_000, description="Pushes kept for one user; older ones are lost.")
    push_heartbeat_seconds: float = Field(
        15.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="Seconds of silence before a subscriber is told of life.",
    )
    max_subscriptions: int = Field(10_000, ge=1, le=1_000_000, description="Open subscriptions of all users at most.")
    max_subscriptions_per_user: int = Field(16, ge=1, le=1000, description="Open subscriptions of one user at most.")
    contacts_per_user: int = Field(20, ge=1, le=1000, description="Contacts that one user may have at most.")
    contact_stale_days: float = Field(
        270.0,
        ge=1,
        le=3650,
        allow_inf_nan=False,
        description="Days after which a web-push subscription or device token that was not registered again expires.",
    )
    record_share: float = Field(
        0.01,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the answers to Recommend that are recorded, 0 to 1.",
    )
    record_keep: int = Field(
        20_000, ge=1, le=10_000_000, description="Recorded answers that are kept, the newest; each takes some 4 kB."
    )
    recall_share: float = Field(
        0.005,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the queries whose recall is checked against exact search afterwards, 0 to 1.",
    )
    controls: str = Field(
        "", description="TOML file of controls, read again whenever it changes; empty for none. See `controls check`."
    )
    fold: bool = Field(True, description="Whether the catalogue's changes are folded back into a release when many.")
    fold_items: int = Field(
        0, ge=0, le=10_000_000, description="Items described anew after which to fold; 0: a 50th, 2,000 to 10,000."
    )
    fold_every_seconds: float = Field(
        600.0, ge=0, le=864_000, allow_inf_nan=False, description="Seconds between two folds at least."
    )
    serving: dict[Name, ServingTable] = Field(
        {}, description="Tables [serving.NAME] change a serving config or add one."
    )
    attribute: dict[AttributeName, AttributeTable] = Field(
        {}, max_length=MAX_ATTRIBUTES, description="Tables [attribute.NAME] declare what users may have."
    )
    tag: dict[str, TagTable] = Field({}, description="Tables [tag.NAME] say who has which tag.")
    privacy: PrivacyTable = Field(
        PrivacyTable.model_validate({}), description="Table [privacy]: what may be done with what is known."
    )
    retention: RetentionTable = Field(
        RetentionTable.model_validate({}), description="Table [retention]: how long it is kept."
    )
    template: dict[Name, TemplateTable] = Field({}, description="Tables [template.NAME] say how a push is worded.")
    trigger: dict[Name, TriggerTable] = Field({}, description="Tables [trigger.NAME] say which events call for a push.")
    cleaning: CleaningTable = Field(EVERYBODY_COUNTS, description="Table [cleaning] says which events do not count.")

    @field_validator("cleaning")
    @classmethod
    def _cleaning_means_somebody(cls, given: CleaningTable, info: ValidationInfo) -> CleaningTable:
        attribute = info.data.get("attribute")
        return cleaning_checked(given, None if attribute is None else declarations(attribute))

    @field_validator("attribute")
    @classmethod
    def _attributes_make_sense(cls, given: dict[str, AttributeTable]) -> dict[str, AttributeTable]:
        return attributes_checked(given)

    @field_validator("tag")
    @classmethod
    def _tags_can_be_asked(cls, given: dict[str, TagTable], info: ValidationInfo) -> dict[str, TagTable]:
        attributes = info.data.get("attribute")
        return tags_checked(given, None if attributes is None else declarations(attributes))

    @field_validator("serving")
    @classmethod
    def _new_configs_have_sources(cls, given: dict[str, ServingTable]) -> dict[str, ServingTable]:
        bare = [name for name, table in given.items() if not table.sources and name not in SERVING_CONFIGS]
        said = f"is missing; only the built-in {', '.join(SERVING_CONFIGS)} have their own"
        refuse(((name, "sources"), said) for name in bare)
        return given

    @field_validator("template")
    @classmethod
    def _templates_render(cls, given: dict[str, TemplateTable]) -> dict[str, TemplateTable]:
        return templates_checked(given)

    @field_validator("trigger")
    @classmethod
    def _triggers_fit(cls, given: dict[str, TriggerTable], info: ValidationInfo) -> dict[str, TriggerTable]:
        serving = info.data.get("serving")
        attribute, tag = info.data.get("attribute"), info.data.get("tag")
        people = None
        if attribute is not None and tag is not None:
            declared, privacy = declarations(attribute), info.data.get("privacy")
            people = People(declared, rules_of(tag, declared), privacy.rules if privacy else EVERYTHING)
        servings = None if serving is None else {*serving, *SERVING_CONFIGS}
        return triggers_checked(given, info.data.get("template"), servings, people)

    @property
    def declared(self) -> Declarations:
        """The attributes that users may have: the built-in ones as these settings change and add to them."""
        return declarations(self.attribute)

    @property
    def tag_rules(self) -> tuple[Rule, ...]:
        """The rules that give tags, built-in ones among them, each after those it asks for."""
        return rules_of(self.tag, self.declared)

    @property
    def serving_configs(self) -> Mapping[str, ServingConfig]:
        """The built-in serving configs as these settings change and add to them."""
        changed = {name: table.over(name, SERVING_CONFIGS.get(name)) for name, table in self.serving.items()}
        return {**SERVING_CONFIGS, **changed}

    @property
    def triggers(self) -> Mapping[str, Trigger]:
        """The triggers, by name."""
        declared = self.declared
        return {name: table.trigger(name, declared) for name, table in self.trigger.items()}

    @property
    def templates(self) -> Mapping[str, Words]:
        """The templates' sources, by name."""
        return {name: table.words for name, table in self.template.items()}


def load(config: Path | None, given: Mapping[str, Any]) -> Settings:
    """Settings from a TOML file, the environment, and what the command line gave, the last one winning.

    Raises InvalidInput with every fault at once.
    """
    if config is not None:
        _readable(config)

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config)

    try:
        return Sourced(**given)
    except ValidationError as error:
        faults = [setting_fault(dict(fault), known_settings) for fault in error.errors()]
        raise InvalidInput(*(with_lines(faults, config.read_text()) if config is not None else faults)) from error
    except SettingsError as error:
        raise InvalidInput(("environment", f"{error}: {error.__cause__}")) from error


def _readable(config: Path) -> None:
    try:
        tomllib.loads(config.read_text())
    except (OSError, UnicodeDecodeError) as error:
        what = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InvalidInput(("config", f"{config} cannot be read: {what}")) from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(("config", f"{config} is not TOML: {error}")) from error


def setting_fault(error: Mapping[str, Any], known: Callable[[list[Any]], list[str]]) -> tuple[str, str]:
    """One fault as (setting, what is wrong with it). `known` names the settings that stand where it is."""
    loc = [part for part in error["loc"] if part != "[key]"]
    if loc[:1] == ["serving"] and loc[2:3] in (["diversity"], ["filter"]):
        del loc[3:4]  # The tag of what may be switched off, no part of a setting's name.
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if error["type"] == "extra_forbidden":
        return field, f"is no setting; known are {', '.join(known(loc))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == TOLD:
        return field, message
    if not field:
        field, _, message = message.partition(": ")
        return field, message
    if error["type"] == "missing":
        return field, "is missing"
    if error["type"] == "timezone_aware":
        return field, f"is {error['input']!s:.80}, must be a time with a zone, such as 2026-11-27T08:00:00Z"
    return field, f"is {error['input']!r:.80}: {message[0].lower()}{message[1:]}"


def known_settings(loc: list[Any]) -> list[str]:
    """Names of the settings that stand where a fault is."""
    match loc:
        case ["serving", _, "sources", *_]:
            return list(SourceTable.model_fields)
        case ["serving", _, "diversity", *_]:
            return list(DiversityTable.model_fields)
        case ["serving", _, "exploration", *_]:
            return list(ExplorationTable.model_fields)
        case ["serving", _, "filter", *_, "number", _]:
            return list(NumberTable.model_fields)
        case ["serving", _, "filter", *_, "time", _]:
            return list(TimeTable.model_fields)
        case ["serving", _, "filter", *_, int(), _]:
            return list(ConditionTable.model_fields)
        case ["serving", _, "filter", *_]:
            return list(FilterTable.model_fields)
        case ["serving", _, _]:
            return list(ServingTable.model_fields)
        case ["trigger", _, _]:
            return list(TriggerTable.model_fields)
        case ["attribute", _, _]:
            return list(AttributeTable.model_fields)
        case ["tag", _, _]:
            return list(TagTable.model_fields)
        case ["privacy", _]:
            return list(PrivacyTable.model_fields)
        case ["retention", _]:
            return ["return" if name == "return_" else name for name in RetentionTable.model_fields]
        case ["cleaning", "bots" | "tests", _]:
            return list(WhoseTable.model_fields)
        case ["cleaning", _]:
            return list(CleaningTable.model_fields)
        case ["template", _, _]:
            return list(TemplateTable.model_fields)
    return list(Settings.model_fields)
