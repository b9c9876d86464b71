"""The default configuration as a commented TOML file."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic.fields import FieldInfo

from tidings_core.declared import BUILT_IN, Declaration, UserKind
from tidings_core.model import SERVING_CONFIGS, ServingConfig
from tidings_server.application.compose import ShownItem
from tidings_server.attribute_settings import AttributeTable
from tidings_server.cleaning_settings import CleaningTable, WhoseTable
from tidings_server.exploration_settings import ExplorationTable
from tidings_server.filter_settings import ConditionTable, FilterTable
from tidings_server.privacy_settings import PrivacyTable, RetentionTable
from tidings_server.push_settings import TemplateTable, TriggerTable
from tidings_server.settings import DiversityTable, ServingTable, Settings, SourceTable
from tidings_server.tag_settings import BUILT_IN as BUILT_IN_TAGS
from tidings_server.tag_settings import TagTable

TABLES = ("serving", "template", "trigger", "attribute", "tag", "privacy", "retention", "cleaning")
"""Settings that are tables, or tables of tables."""
PUSH_EXAMPLE = """\
[trigger.bought]
event = "purchase"
serving_config = "for-you"
template = "goes-with"

[template.goes-with]
title = "{% if because %}For your new {{ because.title }}{% else %}For you{% endif %}"
body = "Have a look at {{ items | map(attribute='title') | join(', ') }}."
"""


def default_config() -> str:
    """A TOML file of all settings at their defaults, each with its description. Tables are commented out."""
    lines = [
        "# Settings of tidings-server. Each can also be set in the environment, as TIDINGS_ and its name in upper case",
        "# (TIDINGS_LISTEN), which wins over this file, and most on the command line (--listen), which wins over both.",
    ]
    for name, field in Settings.model_fields.items():
        if name in TABLES:
            continue
        lines += ["", f"# {field.description}", f"{name} = {_value(field.default)}"]
    lines += ["", f"# {Settings.model_fields['serving'].description} What a table leaves out stays as it is built in;"]
    lines += ["# a new one must have sources. Settings of a table, of an entry of sources, of diversity, of"]
    lines += ["# exploration, of filter and of a condition in it:"]
    for model in (ServingTable, SourceTable, DiversityTable, ExplorationTable, FilterTable, ConditionTable):
        lines += [f"#   {name}: {field.description}" for name, field in model.model_fields.items()]
    lines += ["# The built-in ones:"]
    for config in SERVING_CONFIGS.values():
        lines += ["", *(f"#: {line}" for line in _serving(config))]
    lines += ["", f"# {Settings.model_fields['attribute'].description} UpdateProfile refuses all others. Settings of a"]
    lines += ["# table, which takes the place of a built-in one of its name as a whole:"]
    lines += [f"#   {name}: {field.description}" for name, field in AttributeTable.model_fields.items()]
    lines += ["# The built-in ones:"]
    for declaration in BUILT_IN.values():
        lines += ["", *(f"#: {line}" for line in _attribute(declaration))]
    lines += [
        "",
        f"# {Settings.model_fields['tag'].description} A table takes the place of a built-in one of its name,",
    ]
    lines += ["# what is in braces left out. Settings of a table:"]
    lines += [f"#   {name}: {field.description}" for name, field in TagTable.model_fields.items()]
    lines += ["# The built-in ones:"]
    for name, table in BUILT_IN_TAGS.items():
        lines += ["", *(f"#: {line}" for line in _tag(name, table))]
    lines += [*_single("privacy", PrivacyTable.model_fields), *_single("retention", RetentionTable.model_fields)]
    lines += _cleaning()
    lines += ["", f"# {Settings.model_fields['trigger'].description} Settings of a table:"]
    lines += [f"#   {name}: {field.description}{_default(field)}" for name, field in TriggerTable.model_fields.items()]
    lines += ["#", f"# {Settings.model_fields['template'].description} Settings of a table:"]
    lines += [f"#   {name}: {field.description}" for name, field in TemplateTable.model_fields.items()]
    lines += [
        "# A template knows items, best first; item, the first of them; because, the item that the event was about",
        "# (none when the release does not have it); query and category of the event; event, its type; and tag, the",
        "# one that came or went. An item has",
        f"# {', '.join(one.name for one in dataclasses.fields(ShownItem))}.",
        "# There are none by default. One of each:",
        "",
        *(f"#: {line}".rstrip() for line in PUSH_EXAMPLE.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def _single(name: str, fields: Mapping[str, FieldInfo]) -> list[str]:
    """A table that there is once."""
    lines = ["", f"# {Settings.model_fields[name].description}", f"#: [{name}]"]
    for field_name, field in fields.items():
        lines += [f"# {field.description}", f"#: {field.alias or field_name} = {_value(field.default)}"]
    return lines


def _cleaning() -> list[str]:
    """The table [cleaning], and what its tables may have."""
    lines = ["", f"# {Settings.model_fields['cleaning'].description} They stand in the log all the same."]
    lines += ["", "[cleaning]"]
    tables = []
    for name, field in CleaningTable.model_fields.items():
        if name in ("bots", "tests"):
            tables += ["#", f"# {field.description}"]
        else:
            lines += [f"# {field.description}", f"{name} = {_value(field.default)}"]
    return [*lines, *tables, *(f"#   {name}: {field.description}" for name, field in WhoseTable.model_fields.items())]


def _serving(config: ServingConfig) -> list[str]:
    uses = (f"  {{ name = {_value(u.name)}, k = {u.k}, weight = {_value(u.weight)} }}," for u in config.sources)
    spread = config.diversity
    return [
        f"[serving.{config.name}]",
        "sources = [",
        *uses,
        "]",
        f"rerank = {_value(config.rerank)}",
        f"exclude_bought = {_value(config.exclude_bought)}",
        "diversity = false"
        if spread is None
        else f"diversity = {{ attribute = {_value(spread.attribute)}, max_per_value = {spread.max_per_value} }}",
        f"exclude_seen = {_value(config.exclude_seen)}",
        f"complements = {_value(config.complements)}",
        f"within_category = {_value(config.within_category)}",
        "filter = false",
        "exploration = false",
    ]


def _attribute(declaration: Declaration) -> list[str]:
    least, most = (_bound(declaration.kind, bound) for bound in (declaration.least, declaration.most))
    return [
        f"[attribute.{declaration.name}]",
        f"kind = {_value(declaration.kind)}",
        *([] if least is None else [f"min = {least}"]),
        *([] if most is None else [f"max = {most}"]),
        *(["past = true"] if declaration.past else []),
        f"purpose = {_value(declaration.purpose)}",
        f"sensitive = {_value(declaration.sensitive)}",
    ]


def _tag(name: str, table: TagTable) -> list[str]:
    lines = [f'[tag."{name}"]' if ":" in name else f"[tag.{name}]"]
    if "\n" in table.when:
        lines += ['when = """', *table.when.splitlines(), '"""']
    else:
        lines += [f"when = '{table.when}'"]
    return [*lines, *([f"weight = '{table.weight}'"] if table.weight else [])]


def _bound(kind: UserKind, bound: float | None) -> str | None:
    if bound is None:
        return None
    return date.fromordinal(int(bound)).isoformat() if kind == "date" else _value(bound)


def _default(field: FieldInfo) -> str:
    return " Needed." if field.is_required() else f" Default: {_value(field.default)}."


def _value(value: Any) -> str:
    """A TOML value. JSON writes numbers, truth values and plain strings as TOML does."""
    return json.dumps(value if isinstance(value, bool | int | float | tuple) else str(value))
