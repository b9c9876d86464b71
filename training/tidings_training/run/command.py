"""The command `tidings-train run`."""

import time
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidings_core.errors import InvalidInput
from tidings_index_builder.show import ShownProgress
from tidings_index_builder.terminal import print_json
from tidings_training.run.job import Ran, as_json, run
from tidings_training.run.settings import read_run

STATUS = {"promoted": 0, "built": 0, "failed": 1, "busy": 3, "held_back": 4}


def run_command(
    config: Annotated[Path, typer.Option(help="A TOML file with events, catalogue, work, releases, gate and server.")],
) -> None:
    """Look over, prove, learn, build, promote, for a scheduler: one JSON line on standard output says what happened.

    Exit status 0: promoted, or built where nobody is to promote; 1: failed; 3: another run is at work; 4: held back by
    the gate. A run that was ended goes on where it was.
    """
    with ShownProgress(Console(stderr=True)) as progress:
        try:
            ran = run(read_run(config), time.time(), progress)
        except InvalidInput as error:
            ran = Ran(outcome="failed", error=str(error))
        except Exception as error:  # Whoever reads the line must learn of a fault of ours too.
            traceback.print_exc()
            ran = Ran(outcome="failed", error=f"{type(error).__name__}: {error}")
    print_json(as_json(ran), indent=None)
    raise typer.Exit(STATUS[ran.outcome])
