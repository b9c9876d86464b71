"""Start the server: `tidings-server`, or `python -m tidings_server`."""

import os
import sys


def main() -> None:
    """Run the command. A library of the `server` extra that is not installed is named in one line."""
    # gRPC's own log would repeat in C++ terms what is said here in words; it must be set before grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # One matrix product must not spread over the cores that answer; it is read when numpy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from tidings_server.cli import command
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tidings"):
            raise
        missing = (error.name or "").partition(".")[0]
        print(
            f'tidings-server needs more than the base install: pip install "tidings[server]" (missing: {missing})',
            file=sys.stderr,
        )
        sys.exit(1)
    command(prog_name="tidings-server")


if __name__ == "__main__":
    main()
