"""Builds the server by hand and owns its start and its end. The one file that knows every layer."""

import asyncio
import json
import random
import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from tidings_core.controls import Control
from tidings_core.drift import NAMES
from tidings_core.errors import TidingsError
from tidings_core.privacy import may_target
from tidings_core.release import Release, known_until
from tidings_server import log as logging_setup
from tidings_server.adapters.fold_process import FoldProcess
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.app_contacts import contact_book, contact_methods
from tidings_server.app_privacy import make_erase, privacy_methods
from tidings_server.application.acknowledge import Acknowledge
from tidings_server.application.catalogue import Catalogue
from tidings_server.application.check_recall import CheckRecall
from tidings_server.application.compose import Composer
from tidings_server.application.consistency import check_token, write_token
from tidings_server.application.decide_push import DecidePushes
from tidings_server.application.decision_token import DecisionTokens
from tidings_server.application.erase_profile import EraseProfile, resume_quietly
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.explain import Explain
from tidings_server.application.filter_users import FilterUsers
from tidings_server.application.find_audience import FindAudience
from tidings_server.application.fold_back import FoldBack, FoldRules
from tidings_server.application.get_profile import GetProfile
from tidings_server.application.import_events import ImportEvents
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.list_releases import ListReleases
from tidings_server.application.live_controls import LiveControls
from tidings_server.application.many_people import ManyPeople
from tidings_server.application.merge_profiles import MergeProfiles
from tidings_server.application.observe_answers import Checking, ObserveAnswers, Recording
from tidings_server.application.people import People
from tidings_server.application.plan_push import PlanPushes, Wording
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.prune import Prune
from tidings_server.application.read_items import ReadItems
from tidings_server.application.recommend import Recommend
from tidings_server.application.record_answers import RecordAnswers
from tidings_server.application.record_change import RecordChange
from tidings_server.application.record_events import Door, RecordEvents
from tidings_server.application.rollback_release import RollbackRelease
from tidings_server.application.send_push import SendPush
from tidings_server.application.serving import Serving
from tidings_server.application.subscriptions import Clocks, Limits, Subscriptions
from tidings_server.application.update_profile import UpdateProfile
from tidings_server.application.upsert_items import UpsertItems
from tidings_server.application.user_tags import UserTags
from tidings_server.application.watch_features import WatchFeatures
from tidings_server.application.watch_tags import WatchTags
from tidings_server.application.write_push import Rules
from tidings_server.control_settings import read_controls
from tidings_server.controls_watcher import ControlsWatcher
from tidings_server.metrics import Metrics
from tidings_server.settings import Settings
from tidings_server.transport.audience import AudienceHandlers
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Lane, Method, Stream, Upload
from tidings_server.transport.catalogue import CatalogueHandlers
from tidings_server.transport.catalogue_items import ItemCodec
from tidings_server.transport.changes import decode_logged, encode_change
from tidings_server.transport.events import EventHandlers, encode_event
from tidings_server.transport.explain import ExplainHandlers
from tidings_server.transport.front import Front, find_front
from tidings_server.transport.http import HttpListener
from tidings_server.transport.import_events import ImportHandler
from tidings_server.transport.merge_profiles import MergeHandler
from tidings_server.transport.profiles import ProfileHandlers
from tidings_server.transport.push_encoding import encode_push, show_item
from tidings_server.transport.pushes import PushHandlers
from tidings_server.transport.recommendation import RecommendationHandlers
from tidings_server.transport.releases import ReleaseHandlers
from tidings_server.transport.send_push import SendPushHandler

ADMIN_THREADS = 2
"""One may open a release while the other lists."""
SWITCH_SECONDS = 0.001
"""After so long a thread that computes lets go of the interpreter for one that lets calls in or refuses them."""
STANDING = 3
"""So many batches for each compute thread may wait for longer than a moment."""
RECORD_THREADS = 2
"""One reads events while the other waits for the disk."""
RECORD_TOGETHER = 64
"""Calls that a thread writes down together at most."""
FEW_WAITING = 32
"""Calls that may wait for the lanes of batches and of releases."""
CATALOGUE_TOGETHER = 8
"""Calls that change items and share a commit and a new snapshot at most."""
RECORD_SECONDS = 10.0
"""Deadline of a call that writes, when its caller sets none: a disk may take its time."""
EXPLAIN_SECONDS = 10.0
"""Deadline of an explanation whose caller sets none: it compares with every item there is."""
ADMIN_SECONDS = 600.0
"""Deadline of a release call whose caller sets none: opening a large release takes a while."""

log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises TidingsError when the server cannot start."""
    sys.setswitchinterval(SWITCH_SECONDS)
    logging_setup.configure(settings.log_format, settings.log_level)
    releases = ReleaseDirectory(settings.releases)
    state = StateDirectory.open(settings.state)
    try:
        store = SqliteStore.open(settings.state, lambda: int(time.time() * 1000))
        try:
            asyncio.run(Server(settings, releases, state, store).serve())
        finally:
            store.close()
    finally:
        state.close()


@dataclass(frozen=True, slots=True)
class Wired:
    """What runs: the front, the threads behind it, who decides pushes and who gets them."""

    front: Front
    batchers: dict[Lane, Batcher]
    decider: DecidePushes
    watch: WatchTags
    recorder: RecordAnswers
    monitor: CheckRecall
    folding: FoldBack
    subscriptions: Subscriptions
    imports: ImportHandler
    watcher: ControlsWatcher
    erase: EraseProfile
    prune: Prune


class Server:
    """One server, from its parts to its end."""

    def __init__(
        self, settings: Settings, releases: ReleaseDirectory, state: StateDirectory, store: SqliteStore
    ) -> None:
        """Build what needs no event loop; nothing listens yet.

        Raises InvalidInput when the state is damaged, or the front's library is not installed.
        """
        self._settings = settings
        self._make_front = find_front(settings.front, settings.max_pending)
        self._releases = releases
        self._store = store
        self._key = state.key
        self._tokens = DecisionTokens(state.key, lambda: f"answer/{secrets.token_hex(8)}")
        self._stage = "starting: no release is open yet"
        self._metrics = Metrics()
        self._erased = ErasedIds(state.key, store.erased())
        self._documents = KnownDocuments(store, erased=self._erased)
        self._people = People(store, self._documents, count=self._metrics.profile, rules=settings.privacy.rules)
        self._codec = ItemCodec()
        self._contacts = contact_book(settings, store, state.key, self._erased)
        self._catalogue = Catalogue(store, self._codec, _not_taken_in)
        self._controls = LiveControls(self._read_controls() if settings.controls else ())
        self._serving = Serving(state, self._changed, self._prepared, self._catalogue.renew, self._controls.dress)
        self._folding = self._make_folding()
        self._tags = UserTags(
            settings.tag_rules,
            settings.declared,
            lambda: self._serving.release,
            self._people.rows_of,
            settings.privacy.rules,
        )
        self._metrics.watch_release(lambda: self._serving.release)
        self._metrics.watch_store(lambda: store.waiting, lambda: store.size)
        self._http = HttpListener(self._metrics.registry, self.not_ready)

    def _read_controls(self, path: Path | None = None) -> tuple[Control, ...]:
        return read_controls(path or Path(self._settings.controls), self._settings.serving_configs)

    def _check_decision(self, token: str) -> None:
        """Raise InvalidInput for a decision token that is not good."""
        self._tokens.read(token, time.time())

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
        wired = self._wire()
        self._front = wired.front
        try:
            listen = self._front.bind(settings.listen)
            http = await self._http.start(settings.http)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, stop.set)
            await asyncio.to_thread(self._serving.resume, self._releases, _refused)
            await self._front.start()
            wired.decider.start()
            wired.watch.start()
            wired.recorder.start()
            await asyncio.to_thread(resume_quietly, wired.erase)
            wired.monitor.start()
            wired.watcher.start()
            wired.folding.start()
            wired.prune.start()
            self._stage = ""
            await self._front.set_ready(not self.not_ready())
            self._announce(str(listen), str(http))
            await stop.wait()
            self._stage = "draining: the server is stopping"
            log.info("draining", seconds=settings.drain_seconds)
        finally:
            wired.watcher.close()
            wired.subscriptions.stop()
            wired.imports.stop()
            await self._front.drain(settings.drain_seconds)
            await self._http.close()
            for batcher in wired.batchers.values():
                batcher.close(1.0)
            # Off the loop, which what the decider still publishes is handed to.
            await asyncio.to_thread(wired.watch.close, settings.drain_seconds)
            await asyncio.to_thread(wired.decider.close, settings.drain_seconds)
            await asyncio.to_thread(wired.recorder.close, settings.drain_seconds)
            await asyncio.to_thread(wired.monitor.close, settings.drain_seconds)
            await asyncio.to_thread(wired.folding.close, settings.drain_seconds)
            await asyncio.to_thread(wired.prune.close, settings.drain_seconds)
            wired.subscriptions.close()
        log.info("stopped")

    def _batchers(self) -> dict[Lane, Batcher]:
        """Start the threads of each lane."""
        sizes: dict[Lane, tuple[int, int]] = {
            "compute": (self._settings.compute_threads, self._settings.max_waiting),
            "bulk": (1, min(self._settings.max_waiting, FEW_WAITING)),
            "record": (RECORD_THREADS, self._settings.max_waiting),
            "acknowledge": (1, self._settings.max_waiting),
            "send": (1, self._settings.max_waiting),
            "catalogue": (1, FEW_WAITING),
            "admin": (ADMIN_THREADS, FEW_WAITING),
            "explain": (1, FEW_WAITING),
            "erase": (1, FEW_WAITING),
        }
        batchers = {
            lane: Batcher(
                lane,
                threads,
                waiting,
                time.monotonic,
                self._metrics.batches(lane),
                self._metrics.unserved(lane),
                STANDING * self._settings.max_batch * threads if lane == "compute" else None,
            )
            for lane, (threads, waiting) in sizes.items()
        }
        for lane, batcher in batchers.items():
            self._metrics.watch_waiting(lane, lambda batcher=batcher: batcher.waiting)  # type: ignore[misc]
        return batchers

    def _wire(self) -> Wired:
        """Make everything that answers, and put it together."""
        settings, store, documents, metrics = self._settings, self._store, self._documents, self._metrics
        users = self._filter_users()
        recommend = Recommend(
            self._serving, time.time, time.monotonic, settings.max_batch, self._people.find, users.tags_of
        )
        limits = Limits(
            settings.max_subscriptions, settings.max_subscriptions_per_user, settings.push_heartbeat_seconds
        )
        subscriptions = Subscriptions(store, documents, limits, Clocks(time.time, time.monotonic, random.random))
        metrics.watch_subscriptions(lambda: subscriptions.count)
        privacy = settings.privacy.rules
        rules = Rules(settings.push_max_per_day, settings.push_history, privacy)
        plans = PlanPushes(
            documents,
            recommend,
            settings.triggers,
            settings.serving_configs,
            Wording(Composer(settings.templates), show_item, encode_push),
            rules,
            time.monotonic,
            self._tags.holds,
        )
        decider = DecidePushes(
            store, documents, plans, rules, subscriptions.publish, metrics, time.time, time.monotonic
        )
        send = SendPush(store, documents, self._serving, encode_push, rules, subscriptions.publish, metrics, time.time)
        door, triggers = self._door(), tuple(settings.triggers.values())
        clocks = time.time, time.monotonic
        watch = WatchTags(store, documents, self._tags, triggers, encode_change, *clocks, decider.wake, metrics.moved)
        self._watch = watch.wake if watch.watching else None
        record = RecordEvents(
            store, documents, triggers, time.time, decider.wake, privacy, self._watch, door, metrics.flagged
        )
        acknowledge = Acknowledge(store, documents, subscriptions, encode_event, time.time, privacy, self._watch, door)
        push = PushHandlers(subscriptions, acknowledge)
        drift = WatchFeatures()
        metrics.watch_drift(NAMES, drift.drift)
        recorder = RecordAnswers(
            store, settings.record_keep, metrics.recorded, erased=self._erased, observe=drift.observe
        )
        erase = make_erase(store, self._releases, documents, self._people, subscriptions.forget, recorder.settle)
        rights, export = privacy_methods(store, documents, erase, self._people.item_ids, self._contacts, self._watch)
        monitor = CheckRecall(metrics, time.monotonic)
        checking = Checking(settings.recall_share, monitor.offer)
        recording = Recording(settings.record_share, recorder.offer, lambda: f"answer/{secrets.token_hex(8)}")
        upsert = UpsertItems(store, self._catalogue, self._serving, self._folding.changed)
        read = ReadItems(store, self._serving, self._codec)
        catalogue = CatalogueHandlers(upsert, read, time.time, metrics, partial(check_token, store))
        imports = ImportHandler(
            ImportEvents(
                store, documents, lambda: store.waiting > 0, time.time, privacy, watching=watch.watching, door=door
            ),
            ThreadPoolExecutor(1, thread_name_prefix="import"),
            time.time,
            metrics,
            partial(write_token, store),
        )
        methods = (
            *self._recommendation(
                ObserveAnswers(recommend, recording, checking, random.random, partial(secrets.randbits, 64)),
                Explain(self._serving, recommend.meet, store, settings.serving_configs, recorder.settle, time.time),
            ),
            *self._writing(
                EventHandlers(record, time.time, metrics, self._check_decision),
                push,
                SendPushHandler(send, settings.push_ttl_seconds),
            ),
            *self._profile_methods(),
            *contact_methods(self._contacts),
            *rights,
            *self._merge_methods(subscriptions),
            *self._release_methods(),
            *self._catalogue_methods(catalogue),
        )
        batchers = self._batchers()
        people = ManyPeople(store, self._people)
        audience = AudienceHandlers(
            FindAudience(
                self._serving,
                people.find,
                people.lately,
                users,
                self._key,
                time.time,
                privacy.min_audience,
                self._people.nobody,
            ),
            ThreadPoolExecutor(1, thread_name_prefix="audience"),
        )
        streams = (
            Stream("tidings.v1.PushService", "Subscribe", push.subscribe, push.open),
            Stream("tidings.v1.CatalogService", "ListItems", catalogue.list_items),
            Stream("tidings.v1.RecommendationService", "FindAudience", audience.find_audience),
            export,
        )
        uploads = (Upload("tidings.v1.EventService", "ImportEvents", imports.import_events),)
        front = self._make_front(methods, batchers, metrics, settings.max_message_bytes, streams, uploads)
        watcher = self._watcher()
        prune = Prune(store, documents, settings.retention.retention, decode_logged, time.time)
        rest = self._folding, subscriptions, imports, watcher, erase, prune
        return Wired(front, batchers, decider, watch, recorder, monitor, *rest)

    def _filter_users(self) -> FilterUsers:
        """Make what tells users apart by what is said of them."""
        privacy = self._settings.privacy.rules
        barred = [name for name, one in self._settings.declared.items() if not may_target(one, privacy)]
        return FilterUsers(self._store, self._documents, self._tags, barred, time.time)

    def _door(self) -> Door:
        """What events go through on their way into log and profile."""
        return Door(self._settings.cleaning.rules, decode_logged)

    def _watcher(self) -> ControlsWatcher:
        """Make what looks after the file of controls."""
        controls = self._controls
        watcher = ControlsWatcher(
            Path(self._settings.controls) if self._settings.controls else None,
            self._read_controls,
            lambda found: controls.take(found, self._serving.dress_again),
        )
        self._metrics.watch_controls(lambda: controls.fit, lambda: controls.unfit, lambda: watcher.refused)
        return watcher

    def _recommendation(self, recommend: ObserveAnswers, explain: Explain) -> tuple[Method, ...]:
        """What only reads."""
        settings, check = self._settings, partial(check_token, self._store)
        handlers = RecommendationHandlers(
            recommend, settings.serving_configs, self._metrics, time.monotonic, check, self._tokens
        )
        told = ExplainHandlers(explain, handlers.question)
        service = "tidings.v1.RecommendationService"
        seconds = settings.default_deadline_ms / 1000
        return (
            Method(service, "Recommend", handlers.recommend, "compute", settings.max_batch, seconds),
            Method(service, "BatchRecommend", handlers.batch_recommend, "bulk", 1, seconds),
            Method(service, "Explain", told.explain, "explain", 1, EXPLAIN_SECONDS),
        )

    def _writing(self, event: EventHandlers, push: PushHandlers, send: SendPushHandler) -> tuple[Method, ...]:
        """What waits for the disk."""
        pushes, together = "tidings.v1.PushService", RECORD_TOGETHER
        return (
            Method("tidings.v1.EventService", "RecordEvents", event.record_events, "record", together, RECORD_SECONDS),
            Method(pushes, "Acknowledge", push.acknowledge, "acknowledge", together, RECORD_SECONDS),
            Method(pushes, "SendPush", send.send_push, "send", together, RECORD_SECONDS),
        )

    def _profile_methods(self) -> tuple[Method, ...]:
        """What shows and changes profiles."""
        settings, people, service = self._settings, self._people, "tidings.v1.ProfileService"
        declared = settings.declared
        record = RecordChange(self._store, self._documents, encode_change, time.time, self._watch)
        handlers = ProfileHandlers(
            GetProfile(
                self._documents,
                self._serving,
                people.item_ids,
                people.rows_of,
                self._tags,
                time.time,
                self._contacts.read,
            ),
            UpdateProfile(record, declared, [rule.name for rule in settings.tag_rules], time.time),
            declared,
            partial(check_token, self._store),
            time.time,
        )
        seconds = settings.default_deadline_ms / 1000
        return (
            Method(service, "GetProfile", handlers.get_profile, "compute", 16, seconds),
            Method(service, "UpdateProfile", handlers.update_profile, "record", RECORD_TOGETHER, RECORD_SECONDS),
        )

    def _merge_methods(self, subscriptions: Subscriptions) -> tuple[Method, ...]:
        """What makes two ids one person."""
        merge = MergeProfiles(
            self._store,
            self._documents,
            encode_change,
            self._contacts.join,
            subscriptions.publish,
            subscriptions.moved,
            time.time,
            self._watch,
        )
        handler = MergeHandler(merge).merge_profiles
        service, together = "tidings.v1.ProfileService", RECORD_TOGETHER
        return (Method(service, "MergeProfiles", handler, "record", together, RECORD_SECONDS),)

    def _release_methods(self) -> tuple[Method, ...]:
        """What changes the serving release."""
        serving, service = self._serving, "tidings.v1.ReleaseService"
        release = ReleaseHandlers(
            ListReleases(self._releases, serving, self._store.erased_vectors),
            PromoteRelease(self._releases, serving, time.time),
            RollbackRelease(self._releases, serving, time.time),
            self._metrics,
        )
        return (
            Method(service, "ListReleases", release.list_releases, "admin", 1, ADMIN_SECONDS),
            Method(service, "PromoteRelease", release.promote_release, "admin", 1, ADMIN_SECONDS),
            Method(service, "RollbackRelease", release.rollback_release, "admin", 1, ADMIN_SECONDS),
        )

    def _make_folding(self) -> FoldBack:
        """Make what folds the delta back."""
        settings = self._settings

        def told(outcome: str, release_id: str, detail: str) -> None:
            self._metrics.folded(outcome)
            say = log.info if outcome == "done" else log.warning
            say(f"fold {outcome}", folded_release_id=release_id, detail=detail)

        promote = PromoteRelease(self._releases, self._serving, time.time)
        rules = FoldRules(settings.fold, settings.fold_items, settings.fold_every_seconds)
        fold = FoldProcess(settings.state)
        return FoldBack(
            self._store, self._catalogue, self._serving, promote, fold, rules, time.monotonic, told, self._erased_in
        )

    def _erased_in(self, release: Release) -> list[str]:
        """The users of a release who were erased."""
        users = (release.snapshot.base or release.snapshot).users
        return self._erased.among([users[row] for row in range(len(users))], known_until(release.manifest))

    def _catalogue_methods(self, handlers: CatalogueHandlers) -> tuple[Method, ...]:
        """What shows and changes items."""
        service = "tidings.v1.CatalogService"
        return (
            Method(service, "UpsertItems", handlers.upsert_items, "catalogue", CATALOGUE_TOGETHER, RECORD_SECONDS),
            Method(service, "DeleteItems", handlers.delete_items, "catalogue", CATALOGUE_TOGETHER, RECORD_SECONDS),
            Method(service, "GetItem", handlers.get_item, "compute", 16, RECORD_SECONDS),
        )

    def _prepared(self, release: Release) -> Release:
        """A release that can answer at once: with its delta, and with the rows of all items that anyone has seen."""
        release = self._catalogue.prepare(release)
        self._people.prepare(release)
        # It may have been learned from what was exported before somebody was erased.
        held = [self._erased.key(user_id) for user_id in self._erased_in(release)]
        if held:
            release_id = release.manifest.release_id
            self._store.write(lambda tx: tx.erasures.hold(release_id, held)).result()
        return release

    def _changed(self) -> None:
        """Tell health checks, and who folds, of a new serving release. Called in the thread that swapped it in."""
        asyncio.run_coroutine_threadsafe(self._front.set_ready(not self.not_ready()), self._loop)
        self._folding.changed()

    def _announce(self, listen: str, http: str) -> None:
        """Print the one line on standard output that says where the server listens."""
        serving = self._serving.release
        release_id = serving.manifest.release_id if serving else ""
        print(json.dumps({"event": "listening", "grpc": listen, "http": http, "release_id": release_id}), flush=True)
        log.info("listening", grpc=listen, http=http, release_id=release_id or None)
        if self.not_ready():
            log.warning("not ready", reason=self.not_ready())


def _not_taken_in(item_id: str, problem: str) -> None:
    log.error("an item that is stored cannot be served", item_id=item_id, problem=problem)


def _refused(release_id: str, error: Exception) -> None:
    if isinstance(error, TidingsError):
        log.error("the promoted release is refused; trying the one before", release_id=release_id, problem=str(error))
    else:
        log.error("the promoted release cannot be opened; trying the one before", release_id=release_id, exc_info=error)
