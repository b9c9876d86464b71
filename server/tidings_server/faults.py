"""How commands end when something is wrong."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tidings_core.errors import InvalidInput, TidingsError


@contextmanager
def faults_as_lines() -> Iterator[None]:
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
