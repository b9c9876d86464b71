"""The tables [privacy] and [retention] of the settings: what may be done with what is known, and for how long."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tidings_core.events import EVENT_TYPES
from tidings_core.preferences import Purpose
from tidings_core.privacy import PrivacyRules
from tidings_core.retention import Retention

DAY_MS = 86_400_000
_UNITS = {"d": DAY_MS, "h": 3_600_000}
MAX_AGE = "36500d"


class PrivacyTable(BaseModel):
    """The table [privacy]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiling: bool = Field(
        True, description="Whether answers go by the profile of who has said nothing about it; false: opt in."
    )
    marketing: bool = Field(True, description="Whether who has said nothing about it gets pushes that are marketing.")
    training: bool = Field(True, description="Whether the events of who has said nothing about it may be learned from.")
    min_audience: int = Field(
        5, ge=0, le=1_000_000, description="An audience of fewer users is withheld, and its size; 0: none is."
    )
    adult_age: int = Field(18, ge=0, le=130, description="Who is younger, in years, is a minor: see target_minors.")
    target_minors: bool = Field(False, description="Whether minors are in audiences and get pushes that are marketing.")
    allow_sensitive: tuple[str, ...] = Field(
        (), max_length=64, description="Sensitive attributes that tags, filters and triggers may go by all the same."
    )

    @property
    def rules(self) -> PrivacyRules:
        """What this table says."""
        consent: Mapping[Purpose, bool] = {
            "profiling": self.profiling,
            "marketing": self.marketing,
            "training": self.training,
        }
        return PrivacyRules(
            consent, self.min_audience, self.adult_age, self.target_minors, frozenset(self.allow_sensitive)
        )


def _age(given: Any) -> Any:
    """Milliseconds of an age such as "90d"; 0: for ever."""
    match = re.fullmatch(r"(\d{1,6})([dh])", given) if isinstance(given, str) else None
    if given in ("", "forever"):
        return 0
    if match is None or not 0 < int(match[1]) * _UNITS[match[2]] <= 36_500 * DAY_MS:
        raise ValueError(f'must be days or hours, such as "90d" or "12h", up to {MAX_AGE}, or "forever"')
    return int(match[1]) * _UNITS[match[2]]


Age = Annotated[int, BeforeValidator(_age)]
_FOREVER = "forever"


def _kept(what: str) -> Any:
    return Field(_FOREVER, validate_default=True, description=f"How long {what} are kept.")


class RetentionTable(BaseModel):
    """The table [retention]."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    view: Age = _kept("views")
    search: Age = _kept("searches")
    add_to_cart: Age = _kept("events of this type")
    remove_from_cart: Age = _kept("events of this type")
    purchase: Age = _kept("purchases")
    return_: Age = Field(_FOREVER, alias="return", validate_default=True, description="How long returns are kept.")
    impression: Age = _kept("impressions")
    click: Age = _kept("clicks")
    dismiss: Age = _kept("events of this type")
    see_less: Age = _kept("events of this type")
    rating: Age = _kept("ratings")
    cancel: Age = _kept("cancellations of orders")
    decisions: Age = _kept("decisions about pushes")
    answers: Age = _kept("recorded answers")

    @property
    def retention(self) -> Retention:
        """What this table says."""
        ages = {type: getattr(self, "return_" if type == "return" else type) for type in EVENT_TYPES}
        return Retention({type: age for type, age in ages.items() if age}, self.decisions, self.answers)
