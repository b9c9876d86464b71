"""The commands `tidings-server tags …`."""

import json
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from tidings_core.changes import base_of
from tidings_core.errors import InvalidInput
from tidings_core.faults import text_fault
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_users import open_users
from tidings_server.adapters.state_directory import read_file
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.people import People
from tidings_server.application.preview_tags import TagPreview, preview_tag
from tidings_server.application.serving import read_serving
from tidings_server.application.store import Store
from tidings_server.application.user_tags import UserTags
from tidings_server.faults import faults_as_lines
from tidings_server.settings import load

SHOWN = 20
"""So many tags of a family are shown to people."""

tags = typer.Typer(help="The rules that give tags: preview who would have one.")


@tags.callback()
def _group() -> None:
    """Make `preview` a command of its own, though there is but one."""


@tags.command("preview")
def preview_tags(
    name: Annotated[str, typer.Argument(help="Tag or family, such as lifecycle.", metavar="TAG")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; it need not be in use.", metavar="CONFIG")
    ] = None,
    releases: Annotated[
        str | None, typer.Option(help="Directory of the releases, instead of the settings'.", metavar="DIR")
    ] = None,
    state: Annotated[str | None, typer.Option(help="State directory, instead of the settings'.", metavar="DIR")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Count who would have a tag by the rules of a file of settings. Changes nothing; the server may be running."""
    with faults_as_lines():
        given = {key: value for key, value in (("releases", releases), ("state", state)) if value is not None}
        settings = load(config, given)
        if problem := text_fault(name, 128, 1):
            raise InvalidInput(("TAG", problem))
        promoted = read_serving(partial(read_file, settings.state)).serving
        release = ReleaseDirectory(settings.releases).open(promoted) if promoted else None
        with open_users(settings.state) as users:
            store = cast(Store, users)  # Of all that a store does, finding rows needs the numbers of items.
            people, rules = People(store, KnownDocuments(store)), settings.privacy.rules
            asked = UserTags(settings.tag_rules, settings.declared, lambda: release, people.rows_of, privacy=rules)
            console = Console(stderr=True)
            with Progress(console=console, disable=as_json or not console.is_terminal, transient=True) as progress:
                task = progress.add_task("users", total=users.count())
                told = partial(progress.advance, task)
                now_ms = int(time.time() * 1000)
                found = preview_tag(name, users.documents(), asked, now_ms, told, rules.min_audience)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, separators=(",", ":")))
    else:
        _print(Console(), found, known=base_of(name) in {rule.name for rule in settings.tag_rules})
    if found.damaged:
        print(f"tidings-server: {found.damaged} users could not be read", file=sys.stderr)
        raise typer.Exit(1)


def _print(console: Console, found: TagPreview, *, known: bool) -> None:
    share = f" ({found.have / found.users:.1%})" if found.have or (found.users and not found.withheld) else ""
    by = "" if known else ", by hand: no rule gives it"
    have = f"{found.have:,}" if found.have or not found.withheld else "too few to tell"
    console.print(Text(f"{have} of {found.users:,} users would have {found.name}{share}{by}"), soft_wrap=True)
    if found.withheld:
        console.print("Counts below privacy.min_audience are withheld.")
    if set(found.tags) - {found.name}:
        table = Table(box=None, pad_edge=False)
        table.add_column("tag", overflow="fold")
        table.add_column("users", justify="right")
        for tag, count in list(found.tags.items())[:SHOWN]:
            table.add_row(Text(tag), f"{count:,}")
        console.print(table)
