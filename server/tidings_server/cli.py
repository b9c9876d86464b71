"""The `tidings-server` command."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tidings_core.errors import InvalidInput, TidingsError
from tidings_server import app
from tidings_server.default_config import default_config
from tidings_server.settings import Settings, load

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _option(name: str, *flags: str, metavar: str | None = None) -> Any:
    """An option that sets the setting of that name and is described by it."""
    field = Settings.model_fields[name]
    shown = f"{field.description} Default: {field.default}."
    return typer.Option(*flags, help=shown, metavar=metavar, show_default=False)


@command.command()
def serve(
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
    if print_default_config:
        sys.stdout.write(default_config())
        return
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
    try:
        settings = load(config, {name: value for name, value in given.items() if value is not None})
        if check_config:
            print("the settings are fine")
            return
        app.run(settings)
    except InvalidInput as error:
        for field, description in error.violations:
            print(f"tidings-server: {field}: {description}", file=sys.stderr)
        raise typer.Exit(1) from error
    except TidingsError as error:
        print(f"tidings-server: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
