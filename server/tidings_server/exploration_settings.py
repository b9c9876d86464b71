"""Exploration in the settings: a serving config's `exploration`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tidings_core.model import MAX_K, Exploration


class ExplorationTable(BaseModel):
    """A serving config's `exploration`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: int = Field(20, ge=1, le=1000, description="So many items after the answer have a chance to be in it.")
    floor: float = Field(
        0.02, ge=0.0001, le=0.5, allow_inf_nan=False, description="How likely each of them is, 0.0001 to 0.5."
    )
    kept: int = Field(1, ge=0, le=MAX_K, description="So many first places are never given away.")


OptionalExploration = Annotated[
    Annotated[ExplorationTable, Tag("table")] | Annotated[Literal[False], Tag("switch")],
    Discriminator(lambda given: "switch" if isinstance(given, bool) else "table"),
]


def exploration_over(
    given: ExplorationTable | Literal[False] | None, built_in: Exploration | None
) -> Exploration | None:
    """The exploration that a setting makes of the built-in one; None: nothing was set."""
    if isinstance(given, ExplorationTable):
        return Exploration(given.items, given.floor, given.kept)
    return built_in if given is None else None
