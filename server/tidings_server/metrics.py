"""Every metric, by name, in one list; and the few calls that count on the hot path.

Metrics live in a registry of their own, so that several servers in one process (tests) do not mix.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tidings_core.flags import Flag
from tidings_core.release import Release

# A creation time per series would double what is scraped and tells nothing here.
disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048)
Ended = Callable[[str, float], None]
"""Notes the gRPC code and the seconds of a call that ended. For any thread."""

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric: its name as it is scraped, what kind it is, its labels, and what it means."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


CALLS = Spec("tidings_calls_total", "counter", ("method", "code"), "Calls ended, by RPC and gRPC status code.")
CALL_SECONDS = Spec(
    "tidings_call_seconds", "histogram", ("method",), "Seconds from a call's arrival to its answer, waiting included."
)
STAGE_SECONDS = Spec(
    "tidings_stage_seconds",
    "histogram",
    ("stage",),
    "Seconds a batch spends in decode, recommend and encode; in record, until its events are on disk.",
)
BATCH_SIZE = Spec("tidings_batch_size", "histogram", ("lane",), "Calls answered together, by lane.")
WAITING = Spec("tidings_waiting_calls", "gauge", ("lane",), "Calls that no thread has taken yet, by lane.")
UNSERVED = Spec(
    "tidings_unserved_calls_total",
    "counter",
    ("lane", "why"),
    "Calls that no work was done for, by lane: refused (it would have waited too long), late (its deadline passed "
    "as it waited), left (its caller went away).",
)
DEGRADED = Spec(
    "tidings_degraded_total",
    "counter",
    ("cause", "stage"),
    "Things that answers had to do without, by cause and stage.",
)
PROMOTIONS = Spec(
    "tidings_promotions_total",
    "counter",
    ("operation", "outcome"),
    "Promotions and rollbacks tried, by operation and outcome (done, or the error's reason).",
)
EVENTS = Spec("tidings_events_total", "counter", ("type", "status"), "Events that came, by type and verdict.")
IMPORTED = Spec("tidings_imported_rows_total", "counter", ("status",), "Rows of imports of history, by verdict.")
FLAGGED = Spec(
    "tidings_events_flagged_total", "counter", ("flag",), "Events that stand in the log and count for nothing, by why."
)
ITEMS = Spec("tidings_items_total", "counter", ("result",), "Items that were to be upserted or deleted, by result.")
DELTA = Spec(
    "tidings_delta_items",
    "gauge",
    ("kind",),
    "Items that changed since the serving release was built: described (new, or anew), changed (these too), deleted.",
)
FOLDS = Spec(
    "tidings_folds_total",
    "counter",
    ("outcome",),
    "Times the catalogue's changes were to be folded back: done, dropped (another release took over), failed.",
)
JOBS = Spec("tidings_store_waiting_jobs", "gauge", (), "Jobs that wait for the store's writer.")
STORE_BYTES = Spec("tidings_store_bytes", "gauge", (), "Bytes of the store's files.")
PROFILES = Spec(
    "tidings_profiles_total", "counter", ("kept",), "Profiles that answers needed, by whether they were kept (yes, no)."
)
TAG_MOVES = Spec("tidings_tag_moves_total", "counter", (), "Watched tags that came or went.")
SUBSCRIPTIONS = Spec("tidings_subscriptions", "gauge", (), "Open subscriptions.")
DECISIONS = Spec(
    "tidings_decisions_total",
    "counter",
    ("cause", "outcome"),
    "Decisions on disk, by what called for them (trigger:NAME or api) and outcome (sent, or the reason why not).",
)
DECIDE_SECONDS = Spec(
    "tidings_decide_seconds", "histogram", (), "Seconds from taking up what a trigger called for to having it on disk."
)
PUSH_SECONDS = Spec(
    "tidings_event_to_push_seconds", "histogram", (), "Seconds from recording an event to having its push on disk."
)
CONTROLS = Spec(
    "tidings_controls",
    "gauge",
    ("state",),
    "Controls of the file, dated ones among them: fit, or unfit when the release lacks an attribute they need.",
)
CONTROLS_REFUSED = Spec(
    "tidings_controls_refused", "gauge", (), "1 while the file of controls has a fault and older controls are in force."
)
RECORDED = Spec(
    "tidings_recorded_answers_total",
    "counter",
    ("outcome",),
    "Answers that were to be recorded: recorded, dropped (no room to wait), or failed (the store did not take them).",
)
RECALL = Spec(
    "tidings_live_recall",
    "histogram",
    ("selectivity",),
    "Share of the truly nearest items that the index found, by the share of all items that pass the query's filter.",
)
RECALL_LOW = Spec(
    "tidings_live_recall_low",
    "gauge",
    ("selectivity",),
    "1 while the newest queries show, beyond doubt, less recall than the release promises; else 0.",
)
RECALL_CHECKS = Spec(
    "tidings_recall_checks_total",
    "counter",
    ("outcome",),
    "Queries taken to be checked: checked, passed (nothing to compare), dropped (too many waited), or failed.",
)
DRIFT = Spec(
    "tidings_feature_drift",
    "gauge",
    ("feature",),
    "Population stability index of a feature in recorded answers against what the serving ranker learned from; NaN "
    "while there is too little to say. Above 0.25 is loud.",
)
RELEASE_INFO = Spec("tidings_release_info", "gauge", ("release_id", "index_key"), "1 for the serving release.")
RELEASE_RECALL = Spec("tidings_release_recall", "gauge", (), "Measured recall of the serving release's index, 0 to 1.")
RELEASE_AGE = Spec("tidings_release_age_seconds", "gauge", (), "Seconds since the serving release was built.")

METRICS = (
    CALLS,
    CALL_SECONDS,
    STAGE_SECONDS,
    BATCH_SIZE,
    WAITING,
    UNSERVED,
    DEGRADED,
    PROMOTIONS,
    EVENTS,
    IMPORTED,
    FLAGGED,
    ITEMS,
    DELTA,
    FOLDS,
    JOBS,
    STORE_BYTES,
    PROFILES,
    TAG_MOVES,
    SUBSCRIPTIONS,
    DECISIONS,
    DECIDE_SECONDS,
    PUSH_SECONDS,
    CONTROLS,
    CONTROLS_REFUSED,
    RECORDED,
    RECALL,
    RECALL_LOW,
    RECALL_CHECKS,
    DRIFT,
    RELEASE_INFO,
    RELEASE_RECALL,
    RELEASE_AGE,
)


class Metrics:
    """What the server counts. Label children are looked up once and kept."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register everything in `registry`, a new one by default."""
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = Counter(CALLS.name, CALLS.help, CALLS.labels, registry=self.registry)
        self._seconds = Histogram(
            CALL_SECONDS.name, CALL_SECONDS.help, CALL_SECONDS.labels, registry=self.registry, buckets=SECONDS
        )
        self._stages = Histogram(
            STAGE_SECONDS.name, STAGE_SECONDS.help, STAGE_SECONDS.labels, registry=self.registry, buckets=SECONDS
        )
        self._batches = Histogram(
            BATCH_SIZE.name, BATCH_SIZE.help, BATCH_SIZE.labels, registry=self.registry, buckets=SIZES
        )
        self._waiting = Gauge(WAITING.name, WAITING.help, WAITING.labels, registry=self.registry)
        self._unserved = Counter(UNSERVED.name, UNSERVED.help, UNSERVED.labels, registry=self.registry)
        self._degraded = Counter(DEGRADED.name, DEGRADED.help, DEGRADED.labels, registry=self.registry)
        self._promotions = Counter(PROMOTIONS.name, PROMOTIONS.help, PROMOTIONS.labels, registry=self.registry)
        self._events = Counter(EVENTS.name, EVENTS.help, EVENTS.labels, registry=self.registry)
        self._imported = Counter(IMPORTED.name, IMPORTED.help, IMPORTED.labels, registry=self.registry)
        self._flagged = Counter(FLAGGED.name, FLAGGED.help, FLAGGED.labels, registry=self.registry)
        self._folds = Counter(FOLDS.name, FOLDS.help, FOLDS.labels, registry=self.registry)
        self._tag_moves = Counter(TAG_MOVES.name, TAG_MOVES.help, TAG_MOVES.labels, registry=self.registry)
        self._items = Counter(ITEMS.name, ITEMS.help, ITEMS.labels, registry=self.registry)
        self._jobs = Gauge(JOBS.name, JOBS.help, registry=self.registry)
        self._store_bytes = Gauge(STORE_BYTES.name, STORE_BYTES.help, registry=self.registry)
        self._profiles = Counter(PROFILES.name, PROFILES.help, PROFILES.labels, registry=self.registry)
        self._profile_found = {kept: self._profiles.labels("yes" if kept else "no").inc for kept in (True, False)}
        self._subscriptions = Gauge(SUBSCRIPTIONS.name, SUBSCRIPTIONS.help, registry=self.registry)
        self._decisions = Counter(DECISIONS.name, DECISIONS.help, DECISIONS.labels, registry=self.registry)
        self._decided = Histogram(DECIDE_SECONDS.name, DECIDE_SECONDS.help, registry=self.registry, buckets=SECONDS)
        self._pushed = Histogram(PUSH_SECONDS.name, PUSH_SECONDS.help, registry=self.registry, buckets=SECONDS)
        self._recall = Histogram(RECALL.name, RECALL.help, RECALL.labels, registry=self.registry, buckets=SHARES)
        self._recall_low = Gauge(RECALL_LOW.name, RECALL_LOW.help, RECALL_LOW.labels, registry=self.registry)
        self._recall_checks = Counter(
            RECALL_CHECKS.name, RECALL_CHECKS.help, RECALL_CHECKS.labels, registry=self.registry
        )
        self._controls = Gauge(CONTROLS.name, CONTROLS.help, CONTROLS.labels, registry=self.registry)
        self._controls_refused = Gauge(CONTROLS_REFUSED.name, CONTROLS_REFUSED.help, registry=self.registry)
        self._recorded = Counter(RECORDED.name, RECORDED.help, RECORDED.labels, registry=self.registry)

    def calls(self, method: str) -> Ended:
        """The function that notes one ended call of `method`: its gRPC code and its seconds."""
        codes = {"OK": self._calls.labels(method, "OK").inc}
        seconds = self._seconds.labels(method).observe

        def ended(code: str, took: float) -> None:
            count = codes.get(code)
            if count is None:
                count = codes[code] = self._calls.labels(method, code).inc
            count()
            seconds(took)

        return ended

    def stage(self, stage: str) -> Callable[[float], None]:
        """The function that notes the seconds of one batch in a stage."""
        return self._stages.labels(stage).observe

    def batches(self, lane: str) -> Callable[[int], None]:
        """The function that notes the size of a lane's batch."""
        return self._batches.labels(lane).observe

    def unserved(self, lane: str) -> Callable[[str], None]:
        """The function that notes a call of a lane that no work was done for, by why."""
        counts = {why: self._unserved.labels(lane, why).inc for why in ("refused", "late", "left")}
        return lambda why: counts[why]()

    def watch_waiting(self, lane: str, count: Callable[[], int]) -> None:
        """Ask `count` at each scrape how many calls wait."""
        self._waiting.labels(lane).set_function(count)

    def degraded(self, cause: str, stage: str) -> None:
        """Note one thing an answer had to do without."""
        self._degraded.labels(cause, stage).inc()

    def promotion(self, operation: str, outcome: str) -> None:
        """Note one attempt to change the serving release."""
        self._promotions.labels(operation, outcome).inc()

    def events(self, type: str, status: str, count: int) -> None:
        """Note one verdict on so many events of a type."""
        self._events.labels(type, status).inc(count)

    def imported(self, accepted: int, duplicates: int, rejected: int) -> None:
        """Count rows of an import of history."""
        for status, rows in (("accepted", accepted), ("duplicate", duplicates), ("rejected", rejected)):
            self._imported.labels(status).inc(rows)

    def flagged(self, flags: Flag) -> None:
        """Count an event that counts for nothing, under each of its flags."""
        for flag in flags:
            self._flagged.labels((flag.name or "").lower()).inc()

    def item(self, result: str) -> None:
        """Count an item that was upserted or deleted."""
        self._items.labels(result).inc()

    def folded(self, outcome: str) -> None:
        """Count a fold."""
        self._folds.labels(outcome).inc()

    def moved(self, count: int) -> None:
        """Count watched tags that came or went."""
        self._tag_moves.inc(count)

    def profile(self, kept: bool) -> None:
        """Note that an answer needed a profile, and whether what it says was kept from before."""
        self._profile_found[kept]()

    def watch_store(self, jobs: Callable[[], int], size: Callable[[], int]) -> None:
        """Ask at each scrape how many jobs wait for the store, and how many bytes its files have."""
        self._jobs.set_function(jobs)
        self._store_bytes.set_function(size)

    def watch_subscriptions(self, count: Callable[[], int]) -> None:
        """Ask `count` at each scrape how many subscriptions are open."""
        self._subscriptions.set_function(count)

    def decision(self, cause: str, outcome: str) -> None:
        """Note one decision that is on disk."""
        self._decisions.labels(cause, outcome).inc()

    def decided(self, seconds: float) -> None:
        """Note how long one took, from being taken up to being on disk."""
        self._decided.observe(seconds)

    def pushed(self, seconds: float) -> None:
        """Note how long after its event was recorded a push was on disk."""
        self._pushed.observe(seconds)

    def recorded(self, outcome: str) -> None:
        """Note what became of an answer that was to be recorded."""
        self._recorded.labels(outcome).inc()

    def recall_check(self, outcome: str) -> None:
        """Note what became of a query that was taken to be checked."""
        self._recall_checks.labels(outcome).inc()

    def recall(self, selectivity: str, recall: float) -> None:
        """Note the recall of a query that was checked."""
        self._recall.labels(selectivity).observe(recall)

    def recall_low(self, selectivity: str, low: bool) -> None:
        """Note whether recall is below what the release promises."""
        self._recall_low.labels(selectivity).set(low)

    def watch_controls(self, fit: Callable[[], int], unfit: Callable[[], int], refused: Callable[[], bool]) -> None:
        """Ask at each scrape how many controls fit the release and how many do not, and if the file is refused."""
        self._controls.labels("fit").set_function(fit)
        self._controls.labels("unfit").set_function(unfit)
        self._controls_refused.set_function(refused)

    def watch_drift(self, names: Iterable[str], drift: Callable[[str], float]) -> None:
        """Ask `drift` at each scrape how far each feature has moved."""
        gauge = Gauge(DRIFT.name, DRIFT.help, DRIFT.labels, registry=self.registry)
        for name in names:
            gauge.labels(name).set_function(partial(drift, name))

    def watch_release(self, release: Callable[[], Release | None]) -> None:
        """Ask `release` at each scrape what is serving."""
        self.registry.register(_ServingRelease(release))


class _ServingRelease(Collector):
    """Reads the serving release when scraped, so that no swap has to tidy old labels away."""

    def __init__(self, release: Callable[[], Release | None]) -> None:
        self._release = release

    def collect(self) -> Iterator[Metric]:
        """Yield the serving release's metrics; no samples while there is none."""
        release = self._release()
        info = GaugeMetricFamily(RELEASE_INFO.name, RELEASE_INFO.help, labels=RELEASE_INFO.labels)
        recall = GaugeMetricFamily(RELEASE_RECALL.name, RELEASE_RECALL.help, labels=())
        age = GaugeMetricFamily(RELEASE_AGE.name, RELEASE_AGE.help, labels=())
        delta = GaugeMetricFamily(DELTA.name, DELTA.help, labels=DELTA.labels)
        if release is not None:
            manifest = release.manifest
            info.add_metric([manifest.release_id, manifest.index.key], 1.0)
            recall.add_metric([], manifest.index.recall)
            age.add_metric([], time.time() - manifest.created_at)
            changed = release.snapshot.delta
            sizes = (0, 0, 0) if changed is None else (changed.size, len(changed.rows), len(changed.deleted))
            for kind, size in zip(("described", "changed", "deleted"), sizes, strict=True):
                delta.add_metric([kind], size)
        yield from (info, recall, age, delta)
