"""Load a server with Locust, from as many processes as you like: your own server, or one that is started for it.

    python loadtest/load.py --scenario browse --users 40 --seconds 60 --workers 2 --html load.html
    python loadtest/load.py --server shop.example:50051 --releases /srv/releases

Without --server it starts one: with the release of `make demo` when there is one, otherwise with a generated shop.
Ends with status 1 when a call failed. See docs/load-testing.md.
"""

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tidings
from served import server
from shop import write_shop

HERE = Path(__file__).parent
DEMO = HERE.parent / ".demo" / "releases"
SCENARIOS = {
    "recommend": ("locustfile.py", "Visitor"),
    "browse": ("locustfile.py", "Browser"),
    "subscribe": ("locustfile.py", "Subscriber"),
    "all": ("locustfile.py", ""),
    "shop-day": ("shop_day.py", ""),
}
CONFIG = "push_max_per_day = 1000\n"


@contextmanager
def own_server(folder: Path, releases: Path | None, items: int, users: int) -> Iterator[tuple[str, Path]]:
    """A server of a release, or of a generated shop: its address, and the directory of its releases."""
    if releases is None:
        print(f"building a shop of {items:,} items", file=sys.stderr)
        releases = folder / "releases"
        write_shop(releases, items, users, time.time())
    (folder / "server.toml").write_text(CONFIG)
    front = "native" if importlib.util.find_spec("pygrpc_native") else "grpcio"
    given = ["--config", str(folder / "server.toml")]
    # Load and server share this machine, and take turns as the system likes.
    cores = range(os.cpu_count() or 1)
    with server(releases, folder / "state", front, cores, given) as served:
        with tidings.Client(served.address) as client:
            client.promote_release(client.list_releases()[0].release_id)
        yield served.address, releases


def locust(scenario: str, address: str, releases: Path | None, workers: int, given: Sequence[str]) -> int:
    """Run Locust, with worker processes if there are to be any, and return its status."""
    file, person = SCENARIOS[scenario]
    command = [sys.executable, "-m", "locust", "-f", str(HERE / file), *([person] if person else [])]
    environment = {**os.environ, "TIDINGS_SERVER": address}
    environment |= {} if releases is None else {"TIDINGS_RELEASES": str(releases)}
    running: list[subprocess.Popen[bytes]] = []
    try:
        if workers:
            port = str(_free_port())
            running = [
                subprocess.Popen([*command, "--worker", "--master-port", port], env=environment) for _ in range(workers)
            ]
            given = [*given, "--master", "--master-bind-port", port, "--expect-workers", str(workers)]
        return subprocess.run([*command, "--headless", *given], env=environment, check=False).returncode
    finally:
        for worker in running:
            try:
                worker.wait(10)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def main() -> None:
    """Run, and end with Locust's status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="all", choices=SCENARIOS)
    parser.add_argument("--users", type=int, default=20, help="people at the same time (default 20)")
    parser.add_argument("--seconds", type=int, default=20, help="how long (default 20)")
    parser.add_argument("--workers", type=int, default=0, help="worker processes (default: Locust is one process)")
    parser.add_argument("--server", metavar="HOST:PORT", help="a server that runs (default: start one)")
    parser.add_argument("--releases", type=Path, metavar="DIR", help="its releases, or those to start one with")
    parser.add_argument("--items", type=int, default=20_000, help="of the generated shop")
    parser.add_argument("--shop-users", type=int, default=5_000, help="of the generated shop")
    parser.add_argument("--html", type=Path, default=Path("load.html"), help="where the report goes (load.html)")
    parser.add_argument("--csv", metavar="PREFIX", help="write the figures as CSV too")
    options = parser.parse_args()
    given = ["--users", str(options.users), "--spawn-rate", str(options.users), "--run-time", f"{options.seconds}s"]
    given += ["--html", str(options.html), *(["--csv", options.csv] if options.csv else [])]
    if options.server:
        status = locust(options.scenario, options.server, options.releases, options.workers, given)
    else:
        releases = options.releases or (DEMO if DEMO.exists() else None)
        with (
            tempfile.TemporaryDirectory() as name,
            own_server(Path(name), releases, options.items, options.shop_users) as (address, served),
        ):
            status = locust(options.scenario, address, served, options.workers, given)
    print(f"the report is in {options.html}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
