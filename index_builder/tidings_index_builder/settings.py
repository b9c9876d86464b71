"""What a build and a rebuild are told, from options or from a TOML file, every fault found at once."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from tidings_core.errors import InvalidInput
from tidings_core.model import Metric
from tidings_index_builder.table_files import readable

Settings = TypeVar("Settings", bound=BaseModel)


class TuneSettings(BaseModel):
    """How the index is chosen.

    `recall_target` is the recall@k to reach, k is cut to the number of items, `threads` are for building.
    `max_bytes_per_item` is the most the index may take, `max_build_seconds` the most that choosing and building it may.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Metric = "inner_product"
    recall_target: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.95
    k: Annotated[int, Field(ge=1)] = 100
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    threads: Annotated[int, Field(ge=1)] = 1
    max_bytes_per_item: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_build_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class BuildSettings(TuneSettings):
    """What a release is built from. Paths in a TOML file count from the file's directory."""

    releases: Path
    items: Path | None = None
    users: Path | None = None
    item_ids: Path | None = None
    user_ids: Path | None = None
    catalogue: Path | None = None
    attributes: tuple[str, ...] = ()
    ranker: Path | None = None
    model: Path | None = None

    @field_validator("releases", "items", "users", "item_ids", "user_ids", "catalogue", "ranker", "model")
    @classmethod
    def _from_base(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        base = (info.context or {}).get("base")
        return path if path is None or base is None else base / path

    @model_validator(mode="after")
    def _enough(self) -> "BuildSettings":
        missing = [name for name in ("items", "users") if getattr(self, name) is None]
        if self.model is None and missing:
            raise ValueError(f"{' and '.join(missing)} must be given, unless a model is")
        return self


class RebuildSettings(BuildSettings):
    """A build that is promoted: on which server (host:port; none: build only), and how many releases are kept."""

    server: str | None = None
    keep: Annotated[int, Field(ge=1)] = 5


def read_config(path: Path, server: str | None = None) -> RebuildSettings:
    """Read a rebuild's TOML file; `server` overrides its own. Raises InvalidInput naming every fault."""
    with readable(path, "config"):
        values = tomllib.loads(path.read_text())
    if server is not None:
        values["server"] = server
    return checked(RebuildSettings, values, str(path), path.absolute().parent)


def checked(kind: type[Settings], values: Mapping[str, Any], where: str = "", base: Path | None = None) -> Settings:
    """Make settings from values. Raises InvalidInput naming every field that is not as it must be."""
    try:
        return kind.model_validate(values, context={"base": base})
    except ValidationError as error:
        prefix = f"{where}: " if where else ""
        raise InvalidInput(*((_field(fault["loc"]), prefix + _told(fault)) for fault in error.errors())) from None


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place) or "settings"


def _told(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "is no setting"
    if fault["type"] == "missing":
        return "must be given"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message if fault["type"] == "value_error" else f"is {fault['input']!r}, {message}"
