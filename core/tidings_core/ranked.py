"""The items of answers: as arrays for a whole batch, as they are made and sent; one by one for who reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args, overload

import numpy as np

from tidings_core.tables import Bool, Float32, Float64, Int32, UInt8

ReasonCode = Literal[
    "matches_taste",
    "similar_to_bought",
    "similar_to_viewed",
    "similar_to_context",
    "trending",
    "searched",
    "in_category",
    "recently_viewed",
    "bought_together",
]
REASON_CODES: tuple[ReasonCode, ...] = get_args(ReasonCode)
REASON_NUMBERS: Mapping[ReasonCode, int] = {code: at for at, code in enumerate(REASON_CODES, 1)}
"""What stands for a reason in arrays; 0 for none."""


class Reason(NamedTuple):
    """Why an item is in the answer: the item it rests on (-1: none), the words it rests on ("": none)."""

    code: ReasonCode
    item_row: int = -1
    text: str = ""


class RankedItem(NamedTuple):
    """One item of an answer: its row, its score, what each source that proposed it said, and why it is here."""

    row: int
    score: float
    sources: tuple[tuple[str, float], ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The items of B answers, best first, at most k each.

    rows i32[B, k] (-1: no more), scores f32[B, k]; for each of the S `sources` whether it proposed the item, present
    bool[B, k, S], and with what score, said f32[B, k, S]; for each of R reasons, in the order in which they are told,
    its number, reasons u8[B, k, R] (0: none), and the item it rests on, seeds i32[B, k, R] (-1: none). `texts` maps the
    few reasons that rest on words, by their place in `reasons`, to them. `propensities` f64[B, k] are the probabilities
    with which items were in the answer, where it was drawn; None: all were sure to be.
    """

    rows: Int32
    scores: Float32
    sources: tuple[str, ...]
    present: Bool
    said: Float32
    reasons: UInt8
    seeds: Int32
    texts: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    propensities: Float64 | None = None


NOTHING = Ranked(
    np.empty((1, 0), np.int32),
    np.empty((1, 0), np.float32),
    (),
    np.empty((1, 0, 0), np.bool_),
    np.empty((1, 0, 0), np.float32),
    np.empty((1, 0, 0), np.uint8),
    np.empty((1, 0, 0), np.int32),
)


class Items(Sequence[RankedItem]):
    """The items of one answer of a batch: those of `user`, `size` of them. Items are made when they are looked at."""

    __slots__ = ("ranked", "size", "user")

    def __init__(self, ranked: Ranked = NOTHING, user: int = 0, size: int = 0) -> None:
        self.ranked = ranked
        self.user = user
        self.size = size

    @classmethod
    def of(cls, items: Sequence[RankedItem]) -> "Items":
        """The same items as arrays."""
        names = tuple(dict.fromkeys(name for item in items for name, _ in item.sources))
        most = max((len(item.reasons) for item in items), default=0)
        present = np.zeros((1, len(items), len(names)), np.bool_)
        said = np.zeros(present.shape, np.float32)
        reasons, seeds = np.zeros((1, len(items), most), np.uint8), np.full((1, len(items), most), -1, np.int32)
        texts = {}
        for place, item in enumerate(items):
            for name, score in item.sources:
                present[0, place, names.index(name)], said[0, place, names.index(name)] = True, score
            for at, reason in enumerate(item.reasons):
                reasons[0, place, at], seeds[0, place, at] = REASON_NUMBERS[reason.code], reason.item_row
                if reason.text:
                    texts[0, place, at] = reason.text
        rows = np.array([[item.row for item in items]], np.int32)
        scores = np.array([[item.score for item in items]], np.float32)
        return cls(Ranked(rows, scores, names, present, said, reasons, seeds, texts), 0, len(items))

    @property
    def rows(self) -> Int32:
        """The rows i32[n]."""
        return self.ranked.rows[self.user, : self.size]

    @property
    def propensities(self) -> Float64 | None:
        """The probabilities f64[n] with which they were in the answer; None: each was sure to be."""
        found = self.ranked.propensities
        return None if found is None else found[self.user, : self.size]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[RankedItem]:
        return (self._item(place) for place in range(self.size))

    @overload
    def __getitem__(self, place: int) -> RankedItem: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[RankedItem, ...]: ...

    def __getitem__(self, place: int | slice) -> RankedItem | tuple[RankedItem, ...]:
        if isinstance(place, slice):
            return tuple(map(self._item, range(self.size)[place]))
        return self._item(range(self.size)[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Items({list(self)!r})"

    def _item(self, place: int) -> RankedItem:
        ranked, at = self.ranked, (self.user, place)
        said, seeds, reasons = ranked.said[at].tolist(), ranked.seeds[at].tolist(), ranked.reasons[at].tolist()
        return RankedItem(
            int(ranked.rows[at]),
            float(ranked.scores[at]),
            tuple((name, said[column]) for column, name in enumerate(ranked.sources) if ranked.present[at][column]),
            tuple(
                Reason(REASON_CODES[number - 1], seeds[order], ranked.texts.get((*at, order), ""))
                for order, number in enumerate(reasons)
                if number
            ),
        )
