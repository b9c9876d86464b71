"""Builds the server by hand and owns its start and its end. The one file that knows every layer."""

import asyncio
import json
import signal
import time
from collections.abc import Sequence

import structlog

from tidings_core.errors import TidingsError
from tidings_server import log as logging_setup
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.list_releases import ListReleases
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.recommend import Recommend
from tidings_server.application.rollback_release import RollbackRelease
from tidings_server.application.serving import Serving
from tidings_server.metrics import Metrics
from tidings_server.settings import Settings
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Lane, Method
from tidings_server.transport.front_grpcio import GrpcioFront
from tidings_server.transport.http import HttpListener
from tidings_server.transport.recommendation import RecommendationHandlers
from tidings_server.transport.releases import ReleaseHandlers

ADMIN_THREADS = 2
"""One may open a release while the other lists."""
FEW_WAITING = 32
"""Calls that may wait for the lanes of batches and of releases."""
ADMIN_SECONDS = 600.0
"""Deadline of a release call whose caller sets none: opening a large release takes a while."""

log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises TidingsError when the server cannot start."""
    logging_setup.configure(settings.log_format, settings.log_level)
    releases = ReleaseDirectory(settings.releases)
    state = StateDirectory.open(settings.state)
    try:
        asyncio.run(Server(settings, releases, state).serve())
    finally:
        state.close()


class Server:
    """One server, from its parts to its end."""

    def __init__(self, settings: Settings, releases: ReleaseDirectory, state: StateDirectory) -> None:
        """Build everything; nothing listens yet. Raises InvalidInput when the state is damaged."""
        self._settings = settings
        self._releases = releases
        self._stage = "starting: no release is open yet"
        self._serving = Serving(state, self._changed)
        self._metrics = Metrics()
        self._metrics.watch_release(lambda: self._serving.release)
        self._http = HttpListener(self._metrics.registry, self.not_ready)

    def not_ready(self) -> str:
        """Why this server is not ready, "" when it is."""
        if self._stage:
            return self._stage
        if self._serving.release is None:
            return "no release is serving: build one, then promote it with `tidings releases promote RELEASE`"
        return ""

    async def serve(self) -> None:
        """Start, serve until told to stop, drain. Raises InUse or InvalidInput when an address cannot be had."""
        settings, stop = self._settings, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        batchers = self._batchers()
        self._front = GrpcioFront(self._methods(), batchers, self._metrics, settings.max_message_bytes)
        try:
            listen = self._front.bind(settings.listen)
            http = await self._http.start(settings.http)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, stop.set)
            await asyncio.to_thread(self._serving.resume, self._releases, _refused)
            await self._front.start()
            self._stage = ""
            await self._front.set_ready(not self.not_ready())
            self._announce(str(listen), str(http))
            await stop.wait()
            self._stage = "draining: the server is stopping"
            log.info("draining", seconds=settings.drain_seconds)
        finally:
            await self._front.drain(settings.drain_seconds)
            await self._http.close()
            for batcher in batchers.values():
                batcher.close(1.0)
        log.info("stopped")

    def _batchers(self) -> dict[Lane, Batcher]:
        """Start the threads of each lane."""
        sizes: dict[Lane, tuple[int, int]] = {
            "compute": (self._settings.compute_threads, self._settings.max_waiting),
            "bulk": (1, min(self._settings.max_waiting, FEW_WAITING)),
            "admin": (ADMIN_THREADS, FEW_WAITING),
        }
        batchers = {
            lane: Batcher(lane, threads, waiting, time.monotonic, self._metrics.batches(lane))
            for lane, (threads, waiting) in sizes.items()
        }
        for lane, batcher in batchers.items():
            self._metrics.watch_waiting(lane, lambda batcher=batcher: batcher.waiting)  # type: ignore[misc]
        return batchers

    def _methods(self) -> Sequence[Method]:
        """Every RPC and what answers it."""
        settings, serving = self._settings, self._serving
        recommendation = RecommendationHandlers(
            Recommend(serving, time.time, time.monotonic, settings.max_batch),
            settings.serving_configs,
            self._metrics,
            time.monotonic,
        )
        release = ReleaseHandlers(
            ListReleases(self._releases, serving),
            PromoteRelease(self._releases, serving, time.time),
            RollbackRelease(self._releases, serving, time.time),
            self._metrics,
        )
        of_users, of_releases = "tidings.v1.RecommendationService", "tidings.v1.ReleaseService"
        seconds = settings.default_deadline_ms / 1000
        return (
            Method(of_users, "Recommend", recommendation.recommend, "compute", settings.max_batch, seconds),
            Method(of_users, "BatchRecommend", recommendation.batch_recommend, "bulk", 1, seconds),
            Method(of_releases, "ListReleases", release.list_releases, "admin", 1, ADMIN_SECONDS),
            Method(of_releases, "PromoteRelease", release.promote_release, "admin", 1, ADMIN_SECONDS),
            Method(of_releases, "RollbackRelease", release.rollback_release, "admin", 1, ADMIN_SECONDS),
        )

    def _changed(self) -> None:
        """Tell health checks of a new serving release. Called in the thread that swapped it in."""
        asyncio.run_coroutine_threadsafe(self._front.set_ready(not self.not_ready()), self._loop)

    def _announce(self, listen: str, http: str) -> None:
        """Print the one line on standard output that says where the server listens."""
        serving = self._serving.release
        release_id = serving.manifest.release_id if serving else ""
        print(json.dumps({"event": "listening", "grpc": listen, "http": http, "release_id": release_id}), flush=True)
        log.info("listening", grpc=listen, http=http, release_id=release_id or None)
        if self.not_ready():
            log.warning("not ready", reason=self.not_ready())


def _refused(release_id: str, error: Exception) -> None:
    if isinstance(error, TidingsError):
        log.error("the promoted release is refused; trying the one before", release_id=release_id, problem=str(error))
    else:
        log.error("the promoted release cannot be opened; trying the one before", release_id=release_id, exc_info=error)
