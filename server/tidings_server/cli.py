"""The `tidings-server` command."""

import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tidings_core.catalogue import encode_change
from tidings_core.controls import Control, idle, unfit
from tidings_core.errors import InvalidInput
from tidings_core.release import Release, open_release
from tidings_server import app, show_controls, show_decisions
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_catalogue import open_catalogue
from tidings_server.adapters.sqlite_ledger import read_ledger
from tidings_server.adapters.sqlite_schema import find_database, renew_epoch
from tidings_server.adapters.sqlite_tables import Of
from tidings_server.adapters.state_directory import StateDirectory, read_file
from tidings_server.application.catalogue import changes_since
from tidings_server.application.preview_controls import preview
from tidings_server.application.serving import read_serving
from tidings_server.control_settings import read_controls
from tidings_server.default_config import default_config
from tidings_server.erasures_cli import erasures
from tidings_server.export_cli import export
from tidings_server.faults import faults_as_lines
from tidings_server.keep_cli import backup, restore, verify
from tidings_server.rebuild_cli import rebuild_profiles
from tidings_server.settings import Settings, load
from tidings_server.show_flags import flags
from tidings_server.tags_cli import tags
from tidings_server.transport.catalogue_items import ItemCodec

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

MOST_DECISIONS = 100_000
"""So many are printed at once; with their records that is some 500 MB."""


def _option(name: str, *flags: str, metavar: str | None = None) -> Any:
    """An option that sets the setting of that name and is described by it."""
    field = Settings.model_fields[name]
    shown = f"{field.description} Default: {field.default}."
    return typer.Option(*flags, help=shown, metavar=metavar, show_default=False)


@command.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    releases: Annotated[str | None, _option("releases", metavar="DIR")] = None,
    state: Annotated[str | None, _option("state", metavar="DIR")] = None,
    listen: Annotated[str | None, _option("listen", metavar="HOST:PORT")] = None,
    http: Annotated[str | None, _option("http", metavar="HOST:PORT")] = None,
    front: Annotated[str | None, _option("front")] = None,
    compute_threads: Annotated[str | None, _option("compute_threads", metavar="N")] = None,
    log_format: Annotated[str | None, _option("log_format")] = None,
    log_level: Annotated[str | None, _option("log_level")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.", metavar="FILE")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the settings and exit.")] = False,
    print_default_config: Annotated[
        bool, typer.Option("--print-default-config", help="Print a TOML file of all settings and exit.")
    ] = False,
) -> None:
    """Answer recommendations from a promoted release, over gRPC.

    Settings come from --config, then from the environment (TIDINGS_LISTEN and so on), then from these options; the last
    one wins. When the server answers it prints one JSON line on standard output: {"event": "listening", "grpc":
    HOST:PORT, "http": HOST:PORT, "release_id": ID}. Logs go to standard error.
    """
    given = {
        "releases": releases,
        "state": state,
        "listen": listen,
        "http": http,
        "front": front,
        "compute_threads": compute_threads,
        "log_format": log_format,
        "log_level": log_level,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if context.invoked_subcommand is not None:
        if given or config or check_config or print_default_config:
            raise typer.BadParameter(f"give the options of {context.invoked_subcommand} after it, not before")
        return
    if print_default_config:
        sys.stdout.write(default_config())
        return
    with faults_as_lines():
        settings = load(config, given)
        if check_config and settings.controls:
            read_controls(Path(settings.controls), settings.serving_configs)
        if check_config:
            print("the settings are fine")
            return
        app.run(settings)


command.command()(backup)
command.command()(restore)
command.command()(verify)
command.command()(erasures)
command.command()(export)
command.command("rebuild-profiles")(rebuild_profiles)
command.command()(flags)


_State = Annotated[Path, typer.Option(help="State directory of the server.", metavar="DIR", envvar="TIDINGS_STATE")]


@command.command()
def decisions(
    state: _State = Settings.model_fields["state"].default,
    user: Annotated[str, typer.Option(help="Of this user only.", metavar="USER", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="So many at most.", metavar="N", min=1, max=MOST_DECISIONS)] = 20,
    of: Annotated[Of, typer.Option(help="Which: all, those about pushes, or recorded answers.")] = "all",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per decision, with its full record.")
    ] = False,
) -> None:
    """Print the newest decisions, sent or not, and recorded answers, newest first. The server may be running."""
    with faults_as_lines():
        found = [show_decisions.flatten(entry) for entry in read_ledger(state, user, limit, of)]
    if as_json:
        for decision in found:
            print(show_decisions.to_line(decision))
    elif found:
        show_decisions.print_table(Console(), found)
    else:
        print(f"no decision for {user}" if user else "no decision")
    damaged = [decision for decision in found if "record_problem" in decision]
    for decision in damaged:
        print(f"tidings-server: {decision['decision_id']}: {decision['record_problem']}", file=sys.stderr)
    if damaged:
        raise typer.Exit(1)


@command.command("renew-epoch")
def renew(state: _State = Settings.model_fields["state"].default) -> None:
    """Declare that history was lost. Run it after putting back an older copy, before the server starts.

    Offsets and tokens that were given out since the copy was made mean something else in it. With a new epoch those
    who bring them are told so, instead of being taken at their word. The server must not be running.
    """
    with faults_as_lines():
        find_database(state)
        held = StateDirectory.open(state)
        try:
            old, new = renew_epoch(state)
        finally:
            held.close()
    print(f"the epoch was {old} and is {new} now")


controls = typer.Typer(help="The shop's rules over answers: check a file of them, preview what it would change.")
command.add_typer(controls, name="controls")
command.add_typer(tags, name="tags")

_ControlsFile = Annotated[Path, typer.Argument(help="TOML file of tables [control.NAME].", metavar="FILE")]
_Config = Annotated[Path | None, typer.Option(help="TOML file of the server's settings.", metavar="CONFIG")]
_Releases = Annotated[
    str | None, typer.Option("--releases", help="Directory of the releases, instead of the settings'.", metavar="DIR")
]
_StateOf = Annotated[
    str | None, typer.Option("--state", help="State directory, instead of the settings'.", metavar="DIR")
]


@controls.command("check")
def check_controls(
    file: _ControlsFile, config: _Config = None, releases: _Releases = None, state: _StateOf = None
) -> None:
    """Check a file of controls, also against the release that serves, when there is one. Changes nothing.

    What finds nothing in that release is noted, since it may be misspelt; the file is fine all the same.
    """
    with faults_as_lines():
        settings = _settings(config, releases, state)
        found = read_controls(file, settings.serving_configs)
        release = _serving(settings)
        if release is not None:
            _refuse_unfit(found, release)
            for one in found:
                for field, problem in idle(one, release.snapshot):
                    print(f"tidings-server: note: control.{one.name}.{field}: {problem}", file=sys.stderr)
    against = "no release serves to check attributes against" if release is None else release.manifest.release_id
    print(f"{len(found)} {'control is' if len(found) == 1 else 'controls are'} fine ({against})")


@controls.command("preview")
def preview_controls(
    file: _ControlsFile,
    config: _Config = None,
    releases: _Releases = None,
    state: _StateOf = None,
    limit: Annotated[int, typer.Option(help="So many of the newest decisions.", metavar="N", min=1)] = 1000,
    at: Annotated[
        str | None, typer.Option(help="As of this time, ISO 8601 with a zone; now when not given.", metavar="TIME")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show what a file of controls would change in the recorded answers, against the controls there are now.

    Recorded are pushes, and a share of the answers to Recommend. Nothing is changed; the server may be running.
    """
    with faults_as_lines():
        moment = time.time() if at is None else _moment(at)
        settings = _settings(config, releases, state)
        new = read_controls(file, settings.serving_configs)
        old = read_controls(Path(settings.controls), settings.serving_configs) if settings.controls else ()
        release = _serving(settings)
        if release is None:
            raise InvalidInput(("state", f"no release serves from {settings.state}: promote one, or name another"))
        _refuse_unfit(new, release)
        old = tuple(one for one in old if not unfit(one, release.snapshot))
        entries = read_ledger(settings.state, "", min(limit, MOST_DECISIONS))
        decisions = (show_decisions.flatten(entry) for entry in entries)
        found = preview(decisions, old, new, settings.serving_configs, release.snapshot, moment)
    if as_json:
        print(show_controls.as_json(found, release.manifest.release_id))
    else:
        show_controls.print_preview(Console(), found)


def _serving(settings: Settings) -> Release | None:
    """The release that serves, opened; None when none was promoted. Raises what opening it raises."""
    promoted = read_serving(partial(read_file, settings.state)).serving
    return ReleaseDirectory(settings.releases).open(promoted) if promoted else None


def _moment(given: str) -> float:
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        found = datetime.min
    if found.tzinfo is None:
        raise InvalidInput(("at", f"is {given!r:.80}, must be a time with a zone, such as 2026-11-27T08:00:00Z"))
    return found.timestamp()


def _settings(config: Path | None, releases: str | None, state: str | None) -> Settings:
    given = {name: value for name, value in (("releases", releases), ("state", state)) if value is not None}
    return load(config, given)


def _refuse_unfit(found: Sequence[Control], release: Release) -> None:
    """Raise InvalidInput naming what a release lacks that controls need."""
    faults = [
        (f"control.{one.name}.{field}", problem) for one in found for field, problem in unfit(one, release.snapshot)
    ]
    if faults:
        raise InvalidInput(*faults)


@command.command("export-changes")
def export_changes(
    release: Annotated[Path, typer.Argument(help="Directory of the release to fold them into.", metavar="RELEASE")],
    out: Annotated[Path, typer.Option(help="File to write.", metavar="FILE")],
    state: _State = Settings.model_fields["state"].default,
) -> None:
    """Write what changed in the catalogue since a release, and print the command that folds it back.

    For folding by hand, on another machine too; the server does it by itself with the setting fold. It may be running.
    """
    with faults_as_lines(), open_catalogue(state) as catalogue:
        through = catalogue.catalogue_position
        lines = map(encode_change, changes_since(open_release(release), catalogue, through, ItemCodec()))
        try:
            with out.open("wb") as file:
                file.writelines(lines)
        except OSError as error:
            raise InvalidInput(("out", f"{out} cannot be written: {error.strerror}")) from error
        told = ["fold", str(release), "--changes", str(out), "--epoch", catalogue.epoch]
    print(shlex.join(["tidings-build-index", *told, "--through", str(through)]))
