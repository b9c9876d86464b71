"""The process that folds a delta back: the builder's command, run with what changed in a file."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from tidings_core.errors import DependencyFailed

CHANGES = "fold.unfinished"
"""The file of changes in the state directory; one that a crash leaves behind is removed at the next start."""
USERS = "fold-without.unfinished"
"""The file of users to leave out, there as long as the process runs."""
MOST_SAID = 500
"""Characters of what a process said that are told."""


class FoldProcess:
    """Runs `tidings-build-index fold`, one at a time."""

    def __init__(self, state: Path) -> None:
        """Take the state directory, for the file of changes."""
        self._file = state / CHANGES
        self._users = state / USERS
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._starting = threading.Lock()

    def __call__(
        self,
        release: Path,
        changes: Iterable[bytes],
        epoch: str,
        through: int,
        needed: list[str],
        without: Sequence[str],
    ) -> str:
        """Fold changes, lines of JSON, into the release in a directory; returns the id of the new release beside it.

        The users in `without` are left out. Raises DependencyFailed with what the process said.
        """
        try:
            with self._file.open("wb") as file:
                file.writelines(changes)
            self._users.write_text("".join(f"{user_id}\n" for user_id in without))
            command = [sys.executable, "-m", "tidings_index_builder.fold_cli", str(release)]
            command += ["--changes", str(self._file), "--epoch", epoch, "--through", str(through)]
            command += ["--without-users", str(self._users)]
            command += [part for name in needed for part in ("--needed", name)]
            return self._run(command)
        except OSError as error:
            raise DependencyFailed(f"folding could not be begun: {error}") from error
        finally:
            self._file.unlink(missing_ok=True)
            self._users.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the process, and start no other."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()

    def _run(self, command: list[str]) -> str:
        # One core: the others are there for answers.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        with self._starting:
            if self._stopped:
                raise DependencyFailed("the server is stopping")
            process = self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )
        said, errors = process.communicate()
        self._process = None
        if process.returncode != 0:
            raise DependencyFailed(f"folding ended with status {process.returncode}: {errors.strip()[-MOST_SAID:]}")
        try:
            release_id: str = json.loads(said)["release_id"]
        except (ValueError, KeyError) as error:
            raise DependencyFailed(f"folding said {said[-MOST_SAID:]!r}") from error
        return release_id
