"""The load generator caller.c: built when it is needed, run on a core of its own, and measured itself.

It takes a random request for each call, and costs so little that the server, and not it, is what is measured: how many
calls it can make is found against a front that does nothing, and told with every result.
"""

import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("caller.c")
RECEIPT = np.dtype([("stream", "<u4"), ("size", "<u4"), ("at", "<i8")])
"""A message that came: the number of its stream, its bytes, and nanoseconds of the monotonic clock."""
ENDED = np.dtype([("due", "<i8"), ("ms", "<f4"), ("code", "<i4")])
"""A call that ended: when it was due in nanoseconds of the monotonic clock, how long it took, and its gRPC code."""
CONNECTIONS = 8
NOTHING = "/nothing.Nothing/Nothing"


_LIBC = ctypes.CDLL(None)


class NoCompiler(Exception):
    """There is no C compiler, without which there is no load generator."""


def build(folder: Path) -> Path:
    """Compile the load generator into a folder. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("there is no C compiler (cc): install one to make load")
    made = folder / "caller"
    subprocess.run([compiler, "-O2", "-o", str(made), str(SOURCE), "-lm"], check=True)
    return made


def keep_to(*cores: int) -> None:
    """Keep this process to these cores, as far as there are such."""
    found = os.sched_getaffinity(0).intersection(cores)
    if found:
        os.sched_setaffinity(0, found)


def let_be_profiled() -> None:
    """Let any process of this user look into this one, also where only a parent may look into a child (Yama)."""
    _LIBC.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, to anyone


@dataclass(frozen=True)
class Caller:
    """The built load generator, the server it calls, and the core it keeps to."""

    program: Path
    address: str
    core: int | None = 1

    def calls(
        self,
        path: str,
        bodies: Sequence[bytes],
        seconds: float,
        in_flight: int = 64,
        rate: float = 0.0,
        least: int = 0,
        seed: int = 0,
        connections: int = CONNECTIONS,
        leave_ms: int = 0,
        tell: bool = False,
        record: Path | None = None,
    ) -> dict[str, float]:
        """Call an RPC and tell how it went, with a random one of `bodies` each time.

        `in_flight` calls at a time or, with a rate, so many a second at random times; an answer of less than `least`
        bytes is short. A call that has no answer after `leave_ms` is left (0: never); with `tell` that is its deadline.
        Every call that ended is written into the file `record` as an ENDED row.
        """
        with self._bodies(bodies) as file:
            given: list[object] = [path, file, seconds, connections, in_flight, rate, least, seed]
            given += [leave_ms, int(tell), record or "-"]
            done = subprocess.run(self._command("calls", given), capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found: dict[str, float] = json.loads(done.stdout)
            return found

    @contextmanager
    def streams(
        self,
        path: str,
        bodies: Sequence[bytes],
        connections: int,
        spread: float = 0.0,
        least: int = 0,
        patience: float = 60.0,
    ) -> Iterator["Streams"]:
        """Open a stream with each of `bodies` at once, or within `spread` seconds, until the end of the context."""
        with self._bodies(bodies) as file:
            given = [path, file, len(bodies), connections, spread, least, patience]
            process = subprocess.Popen(
                self._command("streams", given), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            try:
                yield Streams(process)
            finally:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.close()
                process.stdout.close()
                process.wait(30)

    def _command(self, what: str, given: Sequence[object]) -> list[str]:
        host, _, port = self.address.rpartition(":")
        pinned = [] if self.core is None else [sys.executable, str(Path(__file__)), str(self.core)]
        return [*pinned, str(self.program), what, host, port, *map(str, given)]

    @contextmanager
    def _bodies(self, bodies: Sequence[bytes]) -> Iterator[str]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"".join(struct.pack("<I", len(body)) + body for body in bodies))
            file.flush()
            yield file.name


class Streams:
    """Open streams, and what comes on them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def opened(self) -> dict[str, float]:
        """Wait until each had its first message, was refused, or was silent for too long, and tell how many; once."""
        return self._read()

    def expect(self, count: int) -> "Expected":
        """Get ready for so many messages that are not short."""
        file = tempfile.NamedTemporaryFile()  # noqa: SIM115
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count} {file.name}\n")
        self._process.stdin.flush()
        self._read()
        return Expected(self, file)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the load generator ended with status {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


class Expected:
    """Messages to come."""

    def __init__(self, streams: Streams, file: Any) -> None:
        self._streams = streams
        self._file = file

    def receive(self) -> NDArray[Any]:
        """Wait for them, and return those that came as RECEIPT rows in order of coming."""
        self._streams._read()
        with self._file:
            return np.fromfile(self._file.name, RECEIPT)


def calibrate(program: Path, bodies: Sequence[bytes], seconds: float, answer_bytes: int, core: int) -> float:
    """Calls per second that the generator makes of a native front that answers with so many zeros at once.

    0 when pygrpc-native is not installed. The front has `core`, in a process of its own.
    """
    front = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(core), "nothing", str(answer_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert front.stdin is not None
    assert front.stdout is not None
    try:
        port = front.stdout.readline().strip()
        if not port:
            return 0.0
        return Caller(program, f"127.0.0.1:{port}").calls(NOTHING, bodies, seconds, least=answer_bytes)[
            "calls_per_second"
        ]
    finally:
        front.stdin.close()
        front.stdout.close()
        front.wait(30)


def _answer_with_nothing(size: int) -> None:
    """Answer calls with zeros until standard input ends, and print the port."""
    try:
        from pygrpc_native import EVENT_CALL, NativeGrpcFront
    except ModuleNotFoundError:
        return
    front = NativeGrpcFront("127.0.0.1:0", [(NOTHING, False)], io_threads=1)
    front.start()
    print(front.bound_port, flush=True)

    def close_at_the_end() -> None:
        sys.stdin.read()
        front.close()

    threading.Thread(target=close_at_the_end, daemon=True).start()
    answer = bytes(size)
    while (events := front.recv_batch(64)) is not None:
        for kind, call_id, _, _, _ in events:
            if kind == EVENT_CALL:
                front.respond(call_id, answer)


if __name__ == "__main__":
    # caller.py CORE COMMAND...: run a command on one core. `nothing BYTES` is the front that does nothing.
    keep_to(int(sys.argv[1]))
    if sys.argv[2] == "nothing":
        _answer_with_nothing(int(sys.argv[3]))
    else:
        os.execv(sys.argv[2], sys.argv[2:])
