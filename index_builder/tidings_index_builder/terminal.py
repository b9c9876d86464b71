"""What every command of ours does at a terminal: JSON on standard output, faults as lines on standard error."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from tidings_core.errors import InvalidInput, TidingsError


def print_json(value: Mapping[str, Any], indent: int | None = 1) -> None:
    """One JSON object on standard output, on one line when `indent` is None."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def faults_told(command: str) -> Iterator[None]:
    """Turn errors into one line each, which starts with the name of the command, and exit status 1."""
    try:
        yield
    except InvalidInput as error:
        _tell(command, [f"{field}: {description}" for field, description in error.violations])
    except TidingsError as error:
        _tell(command, [str(error)])
    except OSError as error:
        _tell(command, [f"cannot read or write: {error}"])


def _tell(command: str, lines: list[str]) -> None:
    for line in lines:
        print(f"{command}: {line}", file=sys.stderr)
    raise typer.Exit(1)
