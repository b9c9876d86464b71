"""A filter as values that fit JSON, and back: for records of what was asked."""

from dataclasses import asdict
from typing import Any

from tidings_core.filters import AllOf, AnyOf, Condition, Filter, Is, Range

_KINDS: dict[str, type[AnyOf] | type[AllOf] | type[Range] | type[Is]] = {
    "any_of": AnyOf,
    "all_of": AllOf,
    "range": Range,
    "is": Is,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def pack_filter(wanted: Filter | None) -> dict[str, Any] | None:
    """A filter as plain values; None for none."""
    if wanted is None:
        return None
    should = None if wanted.should is None else [_pack(condition) for condition in wanted.should]
    return {"must": list(map(_pack, wanted.must)), "should": should, "must_not": list(map(_pack, wanted.must_not))}


def read_filter(fields: dict[str, Any] | None) -> Filter | None:
    """The inverse of `pack_filter`."""
    if fields is None:
        return None
    should = None if fields["should"] is None else tuple(map(_read, fields["should"]))
    return Filter(tuple(map(_read, fields["must"])), should, tuple(map(_read, fields["must_not"])))


def _pack(condition: Condition) -> dict[str, Any]:
    if isinstance(condition, Filter):
        return {"filter": pack_filter(condition)}
    return {_NAMES[type(condition)]: asdict(condition)}


def _read(fields: dict[str, Any]) -> Condition:
    ((name, content),) = fields.items()
    if name == "filter":
        found = read_filter(content)
        assert found is not None
        return found
    if "values" in content:
        content = {**content, "values": tuple(content["values"])}
    return _KINDS[name](**content)
