"""How somebody stands: what may be done with what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal, get_args

from tidings_core.preferences import PURPOSES, Purpose

Use = Literal["answer", "audience", "push", "trending", "export", "training"]
"""answer: Recommend, BatchRecommend, Explain and what a push recommends go by the profile. audience: the person is
found by FindAudience. push: a push that is marketing. trending: what the person does counts into what trends. export,
training: what the person did leaves the server, is learned from.
"""
USES: tuple[Use, ...] = get_args(Use)
NEEDS: Mapping[Use, tuple[Purpose, ...]] = MappingProxyType(
    {
        "answer": ("profiling",),
        "audience": ("profiling", "marketing"),
        "push": ("marketing",),
        "trending": ("profiling",),
        "export": ("profiling", "training"),
        "training": ("profiling", "training"),
    }
)
"""The purposes that a use needs consent to."""
TARGETING: tuple[Use, ...] = ("audience", "push")
"""Uses that single people out, from which minors are barred."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands: the purposes consented to, and when they come of age (Unix milliseconds; -inf: they have,
    or it is not known).

    It knows no clock, so it can be kept.
    """

    consent: frozenset[Purpose] = frozenset(PURPOSES)
    adult_from: float = -inf

    def may(self, use: Use, now: float) -> bool:
        """Whether what is known of the person may be used so at `now` (Unix milliseconds)."""
        return not self.bar(use, now)

    def bar(self, use: Use, now: float) -> Purpose | Literal["minor", ""]:
        """What is in the way of a use at `now` (Unix milliseconds): a purpose not consented to, or age; "": nothing."""
        lacking: Purpose | Literal[""] = next((need for need in NEEDS[use] if need not in self.consent), "")
        return lacking or ("minor" if use in TARGETING and now < self.adult_from else "")


OPEN = Standing()
"""Of whom nothing is known that forbids anything."""
ERASED = Standing(frozenset())
"""Who was erased: nothing may be used."""
