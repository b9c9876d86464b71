"""The real server as a process of its own, for tests: started, its addresses learned, and ended."""

import json
import os
import selectors
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 60.0


@dataclass(frozen=True)
class RunningServer:
    """A server that answers: `address` for gRPC, `http` for its HTTP listener, both host:port."""

    address: str
    http: str
    release_id: str
    process: "subprocess.Popen[str]"
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of the HTTP listener: status and body."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, sample: str) -> float:
        """The value of one scraped sample, written as in the scrape: name{label="value"}. 0 when it is not there."""
        for line in self.get("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0

    def logged(self) -> list[dict[str, Any]]:
        """What the server has logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, seconds: float = 30.0) -> int:
        """Ask the server to end (SIGTERM) and return its exit status."""
        self.process.terminate()
        return self.process.wait(seconds)


def server_command(releases: Path, state: Path, *extra: str) -> list[str]:
    """The command line of a server on ports that the system chooses, logging JSON; later options win."""
    given = ["--releases", str(releases), "--state", str(state), *extra]
    defaults = {"--listen": "127.0.0.1:0", "--http": "127.0.0.1:0", "--log-format": "json"}
    missing = [part for option, value in defaults.items() if option not in extra for part in (option, value)]
    return [sys.executable, "-m", "tidings_server", *given, *missing]


def server_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of a server, and what a test adds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    return {**kept, **(extra or {})}


def run_server(
    releases: Path, state: Path, *extra: str, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        server_command(releases, state, *extra),
        env=server_environment(env),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


@contextmanager
def start_server(
    releases: Path, state: Path, *extra: str, env: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Start a server and wait until it answers; end it, by force if need be, on leaving.

    It logs into a file beside the state directory.
    """
    log = state.with_name(f"{state.name}-{time.monotonic_ns()}.log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            server_command(releases, state, *extra),
            env=server_environment(env),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        said = json.loads(_first_line(process, log))
        yield RunningServer(said["grpc"], said["http"], said["release_id"], process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(START_SECONDS)
    line = process.stdout.readline() if ready else ""
    assert line, f"the server did not start:\n{log.read_text()}"
    return line
