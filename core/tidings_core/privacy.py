"""What a profile may be used for: the one place that says so, asked by everything that uses one."""

from calendar import isleap
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, datetime
from math import inf
from types import MappingProxyType

from tidings_core.declared import Declaration, day_of
from tidings_core.preferences import PURPOSES, Purpose
from tidings_core.profile import Profile
from tidings_core.standing import Standing

YEAR_MS = 31_557_600_000
"""365.25 days."""


@dataclass(frozen=True, slots=True)
class PrivacyRules:
    """What holds for everybody: consent of who has said nothing, and whether minors may be targeted.

    Fewer people than `min_audience` are no audience. Who is younger than `adult_age` years is a minor. Sensitive
    attributes are used for nothing but those in `allow_sensitive`.
    """

    consent: Mapping[Purpose, bool] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(PURPOSES, True)))
    min_audience: int = 0
    adult_age: int = 18
    target_minors: bool = False
    allow_sensitive: frozenset[str] = frozenset()


EVERYTHING = PrivacyRules()
"""The rules of who sets none: whoever has said nothing consents."""


def standing_of(profile: Profile, rules: PrivacyRules) -> Standing:
    """What a profile may be used for: ask `may` or `bar` of what this returns, with the time."""
    said = {purpose: profile.preferences.consent(purpose) for purpose in PURPOSES}
    given = frozenset(purpose for purpose, word in said.items() if (rules.consent[purpose] if word is None else word))
    return Standing(given, -inf if rules.target_minors else adult_from(profile, rules))


def adult_from(profile: Profile, rules: PrivacyRules) -> float:
    """When the owner of a profile comes of age, in Unix milliseconds; -inf: it is not known."""
    born = profile.stated.attributes.get("birth_date")
    if born is not None and isinstance(born.value, str) and (day := day_of(born.value)) is not None:
        # Who was born on the last day of February comes of age on the first of March where there is none.
        year, month, at = min(day.year + rules.adult_age, MAXYEAR), day.month, day.day
        adult = datetime(year, month, at, tzinfo=UTC) if _exists(year, month, at) else datetime(year, 3, 1, tzinfo=UTC)
        return adult.timestamp() * 1000
    age = profile.stated.attributes.get("age")
    if age is not None and isinstance(age.value, int | float) and age.value < rules.adult_age:
        # As old as that when it was said, and no older: better too late than too early.
        return age.time + (rules.adult_age - int(age.value)) * YEAR_MS
    return -inf


def _exists(year: int, month: int, day: int) -> bool:
    return (month, day) != (2, 29) or isleap(year)


def may_target(declaration: Declaration, rules: PrivacyRules) -> bool:
    """Whether an attribute may be gone by when people are singled out: tags, triggers, audiences, filters."""
    return not declaration.sensitive or declaration.name in rules.allow_sensitive
