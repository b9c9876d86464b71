"""The entry of `tidings-train`, which tells what to install when something is missing."""

import sys


def main() -> None:
    """Run the command."""
    try:
        from tidings_training.cli import app

        app(prog_name="tidings-train")
    except ModuleNotFoundError as error:
        missing = (error.name or str(error)).partition(".")[0]
        if missing.startswith("tidings"):
            raise
        install = 'pip install "tidings[train]"'
        print(f"tidings-train needs more than the base install: {install} (missing: {missing})", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
