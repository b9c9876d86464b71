"""The `tidings-server` command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tidings_core.errors import InvalidInput, TidingsError
from tidings_server import app, show_decisions
from tidings_server.adapters.sqlite_ledger import read_ledger
from tidings_server.adapters.sqlite_schema import find_database, renew_epoch
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.default_config import default_config
from tidings_server.settings import Settings, load

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
    with _faults_as_lines():
        settings = load(config, given)
        if check_config:
            print("the settings are fine")
            return
        app.run(settings)


_State = Annotated[Path, typer.Option(help="State directory of the server.", metavar="DIR", envvar="TIDINGS_STATE")]


@command.command()
def decisions(
    state: _State = Settings.model_fields["state"].default,
    user: Annotated[str, typer.Option(help="Of this user only.", metavar="USER", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="So many at most.", metavar="N", min=1, max=MOST_DECISIONS)] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per decision, with its full record.")
    ] = False,
) -> None:
    """Print the newest decisions, sent or not, newest first. The server may be running."""
    with _faults_as_lines():
        found = [show_decisions.flatten(entry) for entry in read_ledger(state, user, limit)]
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
    with _faults_as_lines():
        find_database(state)
        held = StateDirectory.open(state)
        try:
            old, new = renew_epoch(state)
        finally:
            held.close()
    print(f"the epoch was {old} and is {new} now")


@contextmanager
def _faults_as_lines() -> Iterator[None]:
    """End with status 1 and one line on standard error for each fault."""
    try:
        yield
    except InvalidInput as error:
        for field, description in error.violations:
            print(f"tidings-server: {field}: {description}", file=sys.stderr)
        raise typer.Exit(1) from error
    except TidingsError as error:
        print(f"tidings-server: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
