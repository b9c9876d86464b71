"""A real server process that is measured: kept to cores, its addresses learned, what it spends read off it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil

from caller import keep_to, let_be_profiled

STAGE = re.compile(r'^tidings_stage_seconds_sum\{stage="(\w+)"\} (\S+)', re.M)


@dataclass(frozen=True)
class Served:
    """A server that answers: its addresses, and its process."""

    address: str
    http: str
    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of the processor that it has taken so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own."""
        return int(psutil.Process(self.pid).memory_full_info().uss)

    def scrape(self) -> str:
        """What /metrics says."""
        with urlopen(f"http://{self.http}/metrics") as answer:
            text: str = answer.read().decode()
        return text

    def stages(self) -> dict[str, float]:
        """Seconds that batches have spent so far in each stage, by the clock."""
        return {stage: float(seconds) for stage, seconds in STAGE.findall(self.scrape())}


@contextmanager
def server(
    releases: Path,
    state: Path,
    front: str = "grpcio",
    cores: Sequence[int] = (0,),
    given: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """A server on these cores, with more options `given`. Its log lies beside the state directory."""
    command = [sys.executable, "-m", "tidings_server", "--releases", str(releases), "--state", str(state)]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--front", front, "--log-format", "json", *given]

    def begin() -> None:
        keep_to(*cores)
        let_be_profiled()

    log = state.with_name(f"{state.name}.log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=begin, env=environment
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        said = json.loads(line)
        yield Served(said["grpc"], said["http"], process.pid)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
