"""`tidings-server export events | decisions | catalogue`: what may be learned from, as Parquet."""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tidings.v1 import item_pb2
from tidings_core.errors import InvalidInput
from tidings_core.privacy import PrivacyRules, standing_of
from tidings_core.profile import Profile
from tidings_server.adapters.export_directory import ExportDirectory, Kind, Part, write_table
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_log import LogReader, open_log
from tidings_server.adapters.state_directory import read_file
from tidings_server.application.catalogue import Catalogue
from tidings_server.application.export_log import ExportLog, Group
from tidings_server.application.read_items import ShownItem, shown_items
from tidings_server.application.serving import read_serving
from tidings_server.faults import faults_as_lines
from tidings_server.settings import Settings, load
from tidings_server.show_progress import ShownProgress
from tidings_server.transport.catalogue_items import ItemCodec
from tidings_server.transport.changes import decode_logged

What = Literal["events", "decisions", "catalogue"]
CATALOGUE_FILE = "catalogue.parquet"
_SHOWN = ("title", "description", "brand", "currency", "url")


def export(
    what: Annotated[What, typer.Argument(help="events, decisions (features as they were served), or catalogue.")],
    out: Annotated[Path, typer.Option(help="Directory of the export.", metavar="DIR")],
    config: Annotated[Path | None, typer.Option(help="TOML file of the server's settings.", metavar="CONFIG")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="State directory, instead of the settings'.", metavar="DIR")
    ] = None,
    releases: Annotated[
        str | None, typer.Option("--releases", help="Directory of the releases, instead of the settings'.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Write what may be learned from as Parquet, as of one place of the log. The server may be running.

    The next export into the same directory goes on after it, and takes out what may not stay: people who were erased or
    take their consent back, events that were flagged or are kept no longer. `tidings-train` reads the directory.
    """
    given = {name: value for name, value in (("releases", releases), ("state", state)) if value is not None}
    with faults_as_lines(), ShownProgress() as progress:
        settings = load(config, given)
        with open_log(settings.state) as source:
            if what == "catalogue":
                told = _catalogue(source, settings, out)
            else:
                told = _log(source, what, settings.privacy.rules, out, progress)
    if as_json:
        print(json.dumps({"export": str(out), **told}))
        return
    left = ", ".join(f"{count:,} {why}" for why, count in told.get("left_out", {}).items())
    print(f"{out}: {told['rows']:,} rows through {told['position']:,}" + (f"; left out: {left}" if left else ""))
    if told.get("taken_out"):
        print(f"{told['taken_out']:,} rows of earlier exports were taken out")


def _log(source: LogReader, kind: Kind, rules: PrivacyRules, out: Path, progress: ShownProgress) -> dict[str, Any]:
    """Export events or decisions."""
    now, erasing = time.time() * 1000, source.erasing()

    def may(user_id: str, profile: Profile) -> bool:
        return user_id not in erasing and standing_of(profile, rules).may("export", now)

    log = ExportLog(source, decode_logged, may)
    good = source.good_numbers if kind == "events" else source.decision_numbers
    through = source.position if kind == "events" else source.decided
    directory = ExportDirectory(out, kind, source.epoch)

    def stays(part: Part, numbers: Sequence[int], users: Sequence[str]) -> Sequence[bool]:
        return log.stays(good(part.first, part.last), numbers, users)

    progress("looking over earlier exports")
    taken_out = directory.sweep(stays)
    groups = log.events if kind == "events" else log.decisions
    directory.add(_shown(groups(directory.export.position, through), through, progress))
    export = directory.export
    rows = sum(part.rows for part in export.parts)
    return {"kind": kind, "position": export.position, "rows": rows, "taken_out": taken_out} | {
        "left_out": export.left_out,
        "epoch": export.epoch,
    }


def _shown(groups: Iterator[Group], through: int, progress: ShownProgress) -> Iterator[Group]:
    for group in groups:
        progress("exporting", group[0], through)
        yield group


def _catalogue(source: LogReader, settings: Settings, out: Path) -> dict[str, Any]:
    """Export every item as the serving release shows it, with all that was changed since."""
    promoted = read_serving(partial(read_file, settings.state)).serving
    if not promoted:
        raise InvalidInput(("state", f"no release serves from {settings.state}: promote one, or name another"))
    release = ReleaseDirectory(settings.releases).open(promoted)
    catalogue = Catalogue(source, ItemCodec())
    items = list(shown_items(catalogue.prepare(release).snapshot))
    write_table(out / CATALOGUE_FILE, _columns(items))
    return {"kind": "catalogue", "position": source.catalogue_position, "rows": len(items), "release_id": promoted}


def _columns(items: list[ShownItem]) -> dict[str, tuple[str, list[Any]]]:
    """The columns of a catalogue file: what the builder reads, and every typed attribute besides."""
    messages = [item_pb2.Item.FromString(item.payload) for item in items]
    columns: dict[str, tuple[str, list[Any]]] = {"id": ("text", [message.item_id for message in messages])}
    for name in _SHOWN:
        columns[name] = ("text", [getattr(message, name) or None for message in messages])
    columns["image"] = ("text", [message.image_url or None for message in messages])
    columns["categories"] = ("strings", [list(message.categories) for message in messages])
    columns["price"] = ("number", [message.price if message.HasField("price") else None for message in messages])
    kinds = {name: kind for item in items for name, (kind, _) in item.values.items()}
    types = {"keyword": "text", "tags": "strings", "number": "number", "flag": "flag", "time": "time_us"}
    for name, kind in sorted(kinds.items()):
        if name not in columns and name not in ("category", "id"):
            values = [item.values[name][1] if name in item.values else None for item in items]
            if kind == "time":
                values = [None if value is None else round(float(value) * 1e6) for value in values]  # type: ignore[arg-type]
            columns[name] = (types[kind], [list(one) if isinstance(one, tuple) else one for one in values])
    columns["update_time"] = ("time_us", [item.time or None for item in items])
    return columns
