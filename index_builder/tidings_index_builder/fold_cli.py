"""The command `tidings-build-index fold`. The server runs it by itself: `python -m tidings_index_builder.fold_cli`."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tidings_core.catalogue import Change, decode_change
from tidings_core.errors import InvalidInput
from tidings_core.release import ChangesHeld
from tidings_index_builder.fold import FOLDED, fold, remove_folded
from tidings_index_builder.terminal import faults_told, print_json

COMMAND = "tidings-build-index"


def run(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="The directory of the release that serves.")],
    changes: Annotated[Path, typer.Option(help="What changed since, as `tidings-server export-changes` writes it.")],
    epoch: Annotated[str, typer.Option(help="Name of the history that the changes are of.")],
    through: Annotated[int, typer.Option(min=0, help="Number of the last change.")],
    keep: Annotated[int, typer.Option(min=1, help="Folded releases to keep; older ones are removed.")] = 3,
    needed: Annotated[list[str] | None, typer.Option(metavar="ID", help="A release not to remove. Repeatable.")] = None,
    without_users: Annotated[
        Path | None, typer.Option(help="Users to leave out, one id a line: `tidings-server erasures --ids` tells them.")
    ] = None,
) -> None:
    """Fold what changed in the catalogue back into a release: a new release beside it, ready to be promoted.

    One JSON line says which; `inspect` says the rest.
    """
    with faults_told(COMMAND):
        releases, without = release.resolve().parent, _lines(without_users)
        held = ChangesHeld(epoch, through)
        manifest = fold(release, _read(changes), held, releases, time.time(), without=without)
        kept = {manifest.release_id, release.resolve().name, *(needed or ())}
        pruned, problem = remove_folded(release.resolve().parent, keep, kept)
        told = {
            "release_id": manifest.release_id,
            "item_count": manifest.item_count,
            "recall": manifest.index.recall,
            "changes_held": {"epoch": epoch, "number": through},
            FOLDED: manifest.lineage[FOLDED],
            "pruned": pruned,
            "prune_error": problem,
        }
        print_json(told, indent=None)


def _lines(path: Path | None) -> list[str]:
    try:
        return [] if path is None else path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(("without_users", f"{path} cannot be read: {error}")) from error


def _read(path: Path) -> Iterator[Change]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield decode_change(line)
                except ValueError as error:
                    raise InvalidInput(("changes", f"{path}: line {number}: {error}")) from error
    except OSError as error:
        raise InvalidInput(("changes", f"{path} cannot be read: {error.strerror}")) from error


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Run the command for a server, which it gives way to, and does not outlive."""
    os.nice(10)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(run)
    app(prog_name=f"{COMMAND} fold")


if __name__ == "__main__":
    main()
