"""Models and rankers as of any time, each from nothing but the events up to that time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy.sparse

from tidings_core.attributes import Keyword
from tidings_core.drift import Spread, spreads_of
from tidings_core.features import DAY
from tidings_core.model import DEFAULT_SERVING_CONFIG, SERVING_CONFIGS, Snapshot
from tidings_core.release import FoldInInfo, open_release
from tidings_core.tables import Float32, Int32
from tidings_index_builder.build import build_release
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.ids import rows_of
from tidings_index_builder.model_dir import Model
from tidings_index_builder.progress import Progress, silent
from tidings_training import popularity
from tidings_training.als import ALPHA, FACTORS, ITERATIONS, REGULARIZATION, factorise
from tidings_training.complements import find_complements
from tidings_training.contenders.contender import Embedded, Sequential, TrainingSet
from tidings_training.contenders.registry import learn
from tidings_training.events import Events
from tidings_training.examples import Examples, join, make_examples
from tidings_training.interactions import interactions
from tidings_training.log import Log, log_of
from tidings_training.neighbours import find_neighbours
from tidings_training.questions import of_everyone
from tidings_training.ranker import Network, train
from tidings_training.replay import Replay

SERVING = SERVING_CONFIGS[DEFAULT_SERVING_CONFIG]
"""The ranker is trained and proved on the candidates of this serving config."""
WINDOWS, WINDOW_DAYS = 3, 14.0
"""A ranker learns from so many windows of so many days before its time: what was offered at the start of each, and
what was bought in it. Several short ones teach more than one long one, and age less."""
TRAINING_LISTS = 4096
"""So many lists of candidates, all windows together, are enough to train a ranker."""


Retrieval = Literal["als", "bpr", "gru"]
RETRIEVAL: tuple[Retrieval, ...] = get_args(Retrieval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train. `retrieval` makes the embeddings; `threads` changes nothing but the time it takes."""

    retrieval: Retrieval = "als"
    factors: int = FACTORS
    iterations: int = ITERATIONS
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Ranked:
    """A ranker with the numbers of windows and of lists of candidates, one per user and window, it learned from.

    `spreads` says how the features in them were spread.
    """

    network: Network
    windows: int
    lists: int
    spreads: Mapping[str, Spread]


class _Embeddings(NamedTuple):
    """Vectors of users f32[U, D] and items f32[I, D], and how those of newcomers are made."""

    users: Float32
    items: Float32
    fold_in: FoldInInfo | None = None
    encoder: bytes | None = None


class Trainer:
    """Learns from the events of one shop. What was learned as of a time is kept, since several steps ask for it."""

    def __init__(
        self,
        events: Events,
        catalogue: Catalogue | None,
        folder: Path,
        settings: Settings,
        progress: Progress = silent,
        log: Log | None = None,
    ) -> None:
        """`folder` is for releases that only training looks at; whoever made it removes it.

        With the whole `log`, of which `events` is what says something good, a ranker learns from people as the server
        knew them: with what they looked at, gave back and did not like.
        """
        self._replay = None if log is None else Replay(log)
        self.events = events
        self.settings = settings
        self.progress = progress
        self._catalogue = catalogue
        self._folder = folder
        self._models: dict[float, Model] = {}
        self._snapshots: dict[float, Snapshot] = {}

    def model(self, as_of: float) -> Model | None:
        """What the events up to a time (Unix seconds) teach, without a ranker; None when they are too few."""
        if as_of not in self._models:
            events = self.events.between(float("-inf"), as_of)
            if not events.enough:
                return None
            self._models[as_of] = self._learn(events, as_of)
        return self._models[as_of]

    def snapshot(self, as_of: float) -> Snapshot | None:
        """What a server with that model would serve from, without a ranker; None when there is no model."""
        model = self.model(as_of)
        if model is None:
            return None
        if as_of not in self._snapshots:
            self._snapshots[as_of] = self._release(model)
        return self._snapshots[as_of]

    def ranker(self, as_of: float) -> Ranked | None:
        """A ranker for that time, trained on the windows before it; None when they hold nothing to learn from."""
        found: list[list[Examples]] = []
        for window in range(WINDOWS):
            end = as_of - window * WINDOW_DAYS * DAY
            start = end - WINDOW_DAYS * DAY
            snapshot = self.snapshot(start)
            if snapshot is not None:
                later = self.events.between(start, end)
                found.append(self._examples(snapshot, later, start))
        parts = [part for window_parts in found for part in window_parts]
        if not parts:
            return None
        examples = join(parts)
        network = train(examples, self.settings.seed, progress=self._dated(as_of))
        windows = sum(bool(window_parts) for window_parts in found)
        there = examples.there
        spreads = spreads_of(examples.item[there], examples.user, examples.candidate[there])
        return Ranked(network, windows, len(examples), spreads)

    def _learn(self, events: Events, as_of: float) -> Model:
        settings, progress = self.settings, self._dated(as_of)
        matrix = interactions(events, as_of)
        learned = self._embed(events, matrix, as_of)
        progress("finding neighbours")
        return Model(
            item_ids=events.item_ids,
            item_vectors=learned.items,
            user_ids=events.user_ids,
            user_vectors=learned.users,
            neighbours=find_neighbours(matrix, threads=settings.threads),
            complements=find_complements(events, self._category_codes(events.item_ids)),
            statistics=popularity.item_statistics(events, as_of),
            trending=popularity.trending(events, as_of),
            histories=popularity.histories(events),
            as_of=as_of,
            ranker=None,
            lineage={},
            fold_in=learned.fold_in,
            encoder=learned.encoder,
        )

    def _embed(self, events: Events, matrix: "scipy.sparse.csr_matrix", as_of: float) -> "_Embeddings":
        """Embeddings by the model that was chosen."""
        settings, progress = self.settings, self._dated(as_of)
        if settings.retrieval == "als":
            users, items = factorise(
                matrix,
                factors=settings.factors,
                iterations=settings.iterations,
                seed=settings.seed,
                threads=settings.threads,
                progress=progress,
            )
            return _Embeddings(users, items, fold_in=FoldInInfo(ALPHA, REGULARIZATION))
        training = TrainingSet(log_of(events), as_of, seed=settings.seed, threads=settings.threads, progress=progress)
        model = learn(settings.retrieval, training, {"factors": settings.factors})
        if isinstance(model, Sequential):
            everyone = of_everyone(training.log, as_of, aged=True, seed=settings.seed)
            return _Embeddings(model.vectors(everyone), model.item_vectors, encoder=model.encoder())
        assert isinstance(model, Embedded), "the models to choose from are made of vectors"
        return _Embeddings(model.users, model.items)

    def _category_codes(self, item_ids: list[str]) -> Int32 | None:
        """The narrowest category of each item i32[N], -1: none; None without a catalogue that has any."""
        category = None if self._catalogue is None else self._catalogue.attributes.get("category")
        if self._catalogue is None or not isinstance(category, Keyword):
            return None
        rows = rows_of(item_ids, self._catalogue.ids)
        return np.where(rows >= 0, category.codes[np.maximum(rows, 0)], np.int32(-1))

    def _release(self, model: Model) -> Snapshot:
        self._dated(model.as_of)("building a release")
        manifest = build_release(
            items=model.items,
            users=model.users,
            catalogue=self._catalogue,
            model=model,
            metric="inner_product",
            releases=self._folder,
            now=model.as_of,
            seed=self.settings.seed,
            threads=self.settings.threads,
            # The builder takes the fastest index it measured, so near equals win in turn; with exact search training
            # depends on the seed alone. What an index loses against it stands in each manifest.
            exact=True,
            # Nobody searches in it.
            searchable=False,
            report=False,
        )
        return open_release(self._folder / manifest.release_id).snapshot

    def _examples(self, snapshot: Snapshot, later: Events, now: float) -> list[Examples]:
        return make_examples(
            snapshot,
            later,
            SERVING,
            now,
            limit=TRAINING_LISTS // WINDOWS,
            seed=self.settings.seed,
            progress=self._dated(now),
            replay=self._replay,
        )

    def _dated(self, as_of: float) -> Progress:
        """Progress that says of which time it is."""
        day = f"{datetime.fromtimestamp(as_of, UTC):%Y-%m-%d}"
        return lambda step, done=0, total=0: self.progress(f"{step} as of {day}", done, total)
