"""What a run is told, from a TOML file, every fault found at once."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from tidings_index_builder.settings import checked
from tidings_index_builder.table_files import readable
from tidings_training.als import FACTORS, ITERATIONS
from tidings_training.event_files import Layout
from tidings_training.proof.splits import HOLDOUT_DAYS
from tidings_training.trainer import Retrieval

PROTECTED = ("new people", "returning people", "little past")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GateSettings(BaseModel):
    """What a new model must reach to take the place of the one that serves.

    On at most the last `holdout_days`, its NDCG@k may lie `least_gain` over that of the serving release or more, and in
    no `protected` slice surely below; a slice of people or items is named as `evaluate` names it. With fewer than
    `least_questions` nothing is proved; `unproved` says whether it is then held back or promoted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: Annotated[int, Field(ge=1, le=500)] = 20
    holdout_days: Positive = HOLDOUT_DAYS
    least_gain: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    least_questions: Annotated[int, Field(ge=1)] = 100
    protected: tuple[str, ...] = PROTECTED
    unproved: Annotated[str, Field(pattern="^(hold|promote)$")] = "hold"


class RunSettings(BaseModel):
    """A run. Paths count from the directory of the TOML file.

    `work` keeps what the steps made, so that a run that was ended goes on where it was. `serving` is the directory of
    the release to beat, where no `server` (host:port) is there to be asked; without either there is none, and
    popularity must be beaten. `retrieval` is the model that makes the embeddings. `promote` false: build, and leave it
    to people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Path
    work: Path
    releases: Path
    catalogue: Path | None = None
    attributes: tuple[str, ...] = ()
    columns: dict[str, str] = {}
    separator: str | None = None
    header: bool = True
    retrieval: Retrieval = "als"
    factors: Annotated[int, Field(ge=1, le=4096)] = FACTORS
    iterations: Annotated[int, Field(ge=1, le=1000)] = ITERATIONS
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    threads: Annotated[int, Field(ge=1)] | None = None
    recall_target: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.95
    gate: GateSettings = GateSettings()
    server: str | None = None
    serving: Path | None = None
    promote: bool = True
    keep: Annotated[int, Field(ge=1)] = 5

    @field_validator("events", "work", "releases", "catalogue", "serving")
    @classmethod
    def _from_base(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        base = (info.context or {}).get("base")
        return path if path is None or base is None else base / path

    @property
    def layout(self) -> Layout:
        """How the events file is laid out."""
        return Layout(self.columns, self.separator, self.header)


def read_run(path: Path) -> RunSettings:
    """Read a run's TOML file. Raises InvalidInput naming every fault."""
    with readable(path, "config"):
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    return checked(RunSettings, values, str(path), path.absolute().parent)
