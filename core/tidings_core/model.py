"""The values that travel through a recommendation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from tidings_core.attributes import Attribute
from tidings_core.filters import Filter
from tidings_core.kept import Kept
from tidings_core.ranked import Items
from tidings_core.rows import Passing, RowSet
from tidings_core.standing import OPEN, Standing
from tidings_core.tables import Bool, Float32, Float64, Ids, IdTable, Int32, Int64, Rows

if TYPE_CHECKING:
    from tidings_core.controls import Control
    from tidings_core.delta import Delta

Metric = Literal["inner_product", "cosine", "l2"]
METRICS: tuple[Metric, ...] = ("inner_product", "cosine", "l2")

MAX_ID_BYTES = 256
DEFAULT_K = 20
MAX_K = 500
MAX_CONTEXT_ITEMS = 64
MAX_EXAMPLES = 64
MAX_EXCLUDED_ITEMS = 10_000
MAX_BATCH = 256
MAX_QUERY_BYTES = 1024
MAX_CATEGORY_BYTES = 256
SELECTION_BYTES = 256 << 20
"""What was selected by filters is remembered up to so many bytes for each release."""


class Payloads(Protocol):
    """Byte strings by row."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> bytes: ...

    def views(self, rows: Sequence[int]) -> Sequence[bytes | memoryview]:
        """The byte strings of rows, not copied where they are held in one piece."""
        ...


class Index(Protocol):
    """Finds the nearest items of vectors."""

    def search(self, queries: Float32, k: int, passing: Passing | None = None) -> tuple[Int64, Float32]:
        """Nearest items of queries f32[B, D]: rows i64[B, k] padded with -1, scores f32[B, k], larger is nearer.

        With `passing`, prepared by this index, nothing else is found. Raises IndexFailed.
        """
        ...

    def prepare(self, rows: RowSet, *, gather: bool = True) -> Passing:
        """Make a set of rows ready to be searched for; `gather=False` for rows that are to be left out."""
        ...

    def without(self, passing: Passing | None, excluded: Passing) -> Passing:
        """The rows of `passing` (None: all) that are not among those excluded."""
        ...


class Ranker(Protocol):
    """Scores candidates."""

    def score(
        self,
        item_rows: Int64,
        user_features: Float32,
        candidate_features: Float32,
        item_features: Float32 | None = None,
    ) -> Float32:
        """Scores f32[B, K] of item_rows i64[B, K], user_features f32[B, U], candidate_features f32[B, K, C].

        The rows are those of `item_features` f32[M, F] when it is given, else of the release. A score may be no number.
        Raises RankerFailed.
        """
        ...


class Encoder(Protocol):
    """Makes a person's vector of what they did last."""

    def encode(self, vectors: Float32, gaps: Float32, lengths: Int64, since: Float32) -> Float32:
        """Vectors f32[B, D], see `encoder`; NaN in the rows of whom it gives none. Raises EncoderFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Item-to-item neighbours, best first: rows i32[N, M] padded with -1, scores f32[N, M] padded with 0."""

    rows: Rows
    scores: Rows


@dataclass(frozen=True, slots=True)
class Trending:
    """Items bought by many lately, best first: rows i32[T], scores f32[T]."""

    rows: Int32
    scores: Float32


@dataclass(frozen=True, slots=True)
class History:
    """What one user bought: one entry per item, newest first.

    rows i32[n] item rows; times i64[n] Unix seconds of the last purchase; counts f32[n] number of purchases.
    """

    rows: Int32
    times: Int64
    counts: Float32


EMPTY_HISTORY = History(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Histories:
    """The histories of all users: user row u has entries offsets[u]:offsets[u + 1] of rows, times and counts."""

    offsets: Int64
    rows: Int32
    times: Int64
    counts: Float32

    def __getitem__(self, user_row: int) -> History:
        span = slice(int(self.offsets[user_row]), int(self.offsets[user_row + 1]))
        return History(self.rows[span], self.times[span], self.counts[span])


@dataclass(frozen=True, slots=True)
class Person:
    """What one snapshot makes of a user's profile: item rows are that snapshot's. It knows no clock, so it can be kept.

    `history` joins what the release and the profile say was bought. Newest first, and distinct: `interests` i32[n], the
    items of any good event, with `interest_times` f64[n] (Unix seconds); `unbought` i32[m], those looked at or put into
    the cart and not bought since, with `unbought_times` f64[m]; `searches` and `categories` as (text, Unix seconds).
    `returned`, `seen`, `blocked` and `disliked` (rated low) are i32 item rows; what was given back, all of it, stands
    in `returned` alone. `steps` i32[l] are the items of what was liked last, oldest first, with `step_times` f64[l]
    (Unix seconds), for a snapshot with an encoder. `many` holds, of "bought" (the history), "returned", "blocked" and
    "seen", those of many rows, prepared for leaving them out. `vector` f32[D] is folded in from all of it; None: the
    release's own stands, an encoder reads the steps, or there is nothing to fold in.
    `version` is that of the profile as it is stored, 0 for one that is not. `standing` says what it may be used for;
    where that forbids answers there is nothing else here. `unlisted`: what the release itself has of the user must not
    be used either. `user_id` is the id under which it stands, where it was asked for by another one.
    `attributes` f32[A] are the snapshot's `user_attributes`, None when it asks for none.
    """

    history: History = EMPTY_HISTORY
    interests: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    interest_times: Float64 = field(default_factory=lambda: np.empty(0, np.float64))
    unbought: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    unbought_times: Float64 = field(default_factory=lambda: np.empty(0, np.float64))
    returned: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    seen: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    blocked: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    disliked: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    many: Mapping[str, Passing] = field(default_factory=dict)
    searches: tuple[tuple[str, float], ...] = ()
    categories: tuple[tuple[str, float], ...] = ()
    steps: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    step_times: Float64 = field(default_factory=lambda: np.empty(0, np.float64))
    vector: Float32 | None = None
    attributes: Float32 | None = None
    version: int = 0
    standing: Standing = OPEN
    unlisted: bool = False
    user_id: str = ""

    @property
    def known(self) -> bool:
        """Whether there is anything here to recommend by."""
        rows = len(self.history.rows) + len(self.interests) + len(self.unbought) + len(self.steps)
        return bool(rows or self.searches or self.categories or self.vector is not None)

    @property
    def many_bytes(self) -> int:
        """Bytes of memory that `many` takes, some bits for every item of the shop, and the rows that it is of."""
        parts = self.many.values()
        own = sum(part.nbytes + part.rows.count * 4 for part in parts)
        return own + sum(part.within.nbytes for part in parts if part.within is not None)


@dataclass(frozen=True, slots=True)
class FoldIn:
    """How to find the vector of a user that the release does not know, as the library implicit does it.

    gram f64[D, D]: item_vectors' times themselves; alpha and regularization are those the item vectors were learned
    with.
    """

    gram: Float64
    alpha: float
    regularization: float


@dataclass(frozen=True, slots=True)
class Postings:
    """Words, and the items of each: word w has entries offsets[w]:offsets[w + 1] of rows i32 and weights f32.

    words.names are the words; of each, the items of the largest weight come first. `mean_length` is the mean length of
    the texts, 0 where words are no words of texts. Entries of `stale` rows (i32 ascending) no longer count; those of
    `newer` do.
    """

    words: IdTable
    offsets: Int64
    rows: Int32
    weights: Float32
    mean_length: float = 0.0
    stale: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    newer: "Postings | None" = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that an answer is made from. Immutable; read once per batch.

    item_vectors f32[N, D], user_vectors f32[U, D] (unit length for the cosine metric), item_features f32[N, F].
    `payloads` holds each item's encoded `tidings.v1.Item`, opaque here. `neighbours` are liked by the same users,
    `complements` bought in the same orders. The weights in `words` are BM25 impacts, those in `categories` popularity,
    those in `category_trends` the scores of `trending`; category names are folded (`text.fold`). `trained_until` is
    Unix seconds, 0 when the vectors were learned elsewhere; `user_norm` is the median length of the user vectors.
    `item_times` i64[N] is when the shop last described each item to the release, in Unix microseconds, 0 where that is
    not known; vectors of one `vector_space` can be compared. `user_attributes` are the columns that the ranker asks for
    of what is stated of users (`features.attribute_features`), beside those of the schema.

    With a `delta`, every table but `attributes` is read with it and N is the number of all items, new ones after those
    of the release; `attributes` are the release's own, `codes` those of its keyword attributes with the delta
    (i32, see `features.attribute_codes`), and `base` is the release alone. `controls` are the shop's rules
    that fit it, in the order in which they have their way.
    A part that is None is one this release lacks: what needs it is not offered. `selections` is a memory of what
    filters let pass (see `selection`), and no part of the value.
    """

    items: Ids
    users: IdTable
    item_vectors: Rows
    user_vectors: Float32
    metric: Metric
    index: Index
    item_features: Rows
    payloads: Payloads
    attributes: Mapping[str, Attribute]
    neighbours: Neighbours | None = None
    complements: Neighbours | None = None
    trending: Trending | None = None
    category_trends: Postings | None = None
    histories: Histories | None = None
    ranker: Ranker | None = None
    encoder: Encoder | None = None
    words: Postings | None = None
    categories: Postings | None = None
    fold_in: FoldIn | None = None
    user_attributes: tuple[str, ...] = ()
    trained_until: float = 0.0
    user_norm: float = 1.0
    item_times: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    vector_space: str = ""
    delta: "Delta | None" = None
    base: "Snapshot | None" = None
    codes: Mapping[str, Rows] = field(default_factory=dict)
    controls: "tuple[Control, ...]" = ()
    # Not taken over by `replace`: what other parts made is not true of these.
    selections: Kept[Any] = field(init=False, default_factory=lambda: Kept(SELECTION_BYTES), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SourceUse:
    """A candidate source inside a serving config: how many it proposes, and its weight when there is no ranker."""

    name: str
    k: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Diversity:
    """At most `max_per_value` items with one value of `attribute` before any other item had its turn."""

    attribute: str
    max_per_value: int


@dataclass(frozen=True, slots=True)
class Exploration:
    """Chances for what would not be in an answer: each of the next `items` gets into it with probability `floor`.

    The first `kept` places are never given away. See `exploration`.
    """

    items: int = 20
    floor: float = 0.02
    kept: int = 1


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """A named recipe: which sources propose, whether the ranker scores, what is left out.

    With `complements` the first place is for the best item that goes with the context and is of another category, when
    there is one: what is added to a thing, before what would take its place. With `within_category` an answer to a
    query that names a category holds only items of it. With `filter` it holds only items that pass it. With
    `exploration`, answers to queries that bring a seed are drawn.
    """

    name: str
    sources: tuple[SourceUse, ...]
    rerank: bool = True
    exclude_bought: bool = True
    diversity: Diversity | None = None
    exclude_seen: bool = False
    complements: bool = False
    within_category: bool = False
    filter: Filter | None = None
    exploration: Exploration | None = None


DEFAULT_SERVING_CONFIG = "for-you"
SERVING_CONFIGS: Mapping[str, ServingConfig] = MappingProxyType(
    {
        config.name: config
        for config in (
            ServingConfig(
                DEFAULT_SERVING_CONFIG,
                (
                    SourceUse("ann", 120),
                    SourceUse("similar", 60, weight=0.5),
                    SourceUse("trending", 20, weight=0.5),
                    SourceUse("recent", 10, weight=0.3),
                    SourceUse("search", 40),
                    SourceUse("tagged", 40, weight=0.5),
                ),
                diversity=Diversity("category", 5),
            ),
            ServingConfig(
                "similar",
                (SourceUse("similar", 100), SourceUse("trending", 20, weight=0.1)),
                rerank=False,
                exclude_bought=False,
            ),
            ServingConfig("trending", (SourceUse("trending", 600),), rerank=False, exclude_bought=False),
            ServingConfig(
                "goes-with",
                (
                    SourceUse("complement", 60),
                    SourceUse("similar", 60, 0.3),
                    SourceUse("trending", 20, 0.1),
                ),
                rerank=False,
                complements=True,
            ),
            ServingConfig(
                "cart",
                (
                    SourceUse("complement", 100),
                    SourceUse("similar", 60, 0.3),
                    SourceUse("trending", 20, 0.1),
                ),
                rerank=False,
                exclude_bought=False,
            ),
            ServingConfig("search", (SourceUse("search", 100),), rerank=False),
            ServingConfig(
                "browse",
                (SourceUse("tagged", 100), SourceUse("ann", 60, weight=0.5)),
                rerank=False,
                within_category=True,
            ),
        )
    }
)
"""The serving configs every server and every evaluation starts from; settings can change and add to them."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question: which `k` items for this user, now."""

    user_id: str
    serving: ServingConfig
    k: int = DEFAULT_K
    context_item_ids: Sequence[str] = ()
    exclude_item_ids: Sequence[str] = ()
    search: str = ""
    category: str = ""
    filter: Filter | None = None
    """What every item of the answer must be, besides what the serving config asks for."""
    liked_item_ids: Sequence[str] = ()
    disliked_item_ids: Sequence[str] = ()
    """Examples of what the answer should and should not be like."""
    vector: Float32 | None = None
    """f32[D], taken in place of the user's own; with examples it is one more that is liked."""
    person: Person | None = None
    """What the snapshot makes of the user's profile; None: only what the release itself knows."""
    tags: Collection[str] = ()
    """Of the tags that controls name those of the user, each with its family."""
    seed: int | None = None
    """What the draw of the serving config's exploration goes by; None: nothing is drawn."""


Cause = Literal["no_release", "unknown_user", "unknown_context", "deadline", "failed", "no_consent", "erased"]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One thing an answer had to do without."""

    cause: Cause
    stage: str
    detail: str


@dataclass(frozen=True, slots=True)
class Considered:
    """All candidates of one answer, for the record: rows i32[K], the scores they were ordered by f32[K].

    For each of the S `sources`: present bool[K, S], said f32[K, S] (0 where not present), ranks i32[K, S] place in that
    source from 0. user f32[U] and pair f32[K, C] are what a ranker sees of the user, and of user and item together.
    `steps` are the orders that one rule after another made, each i64[K] positions, best first: the first is that of the
    scores, the last is the answer's, which goes on after the items that were asked for. `ranked` says whether the
    ranker gave the scores; without it the order of the sources did.
    """

    rows: Int32
    scores: Float32
    sources: tuple[str, ...]
    present: Bool
    said: Float32
    ranks: Int32
    user: Float32
    pair: Float32
    steps: tuple[tuple[str, Int64], ...]
    ranked: bool

    @property
    def order(self) -> Int64:
        """Positions i64[K] of the candidates as they were answered, best first."""
        return self.steps[-1][1]


@dataclass(frozen=True, slots=True)
class Answer:
    """A ranked answer, best item first. `considered` is set when it was asked for."""

    items: Items = field(default_factory=Items)
    degraded: tuple[Degradation, ...] = field(default=())
    considered: Considered | None = None
