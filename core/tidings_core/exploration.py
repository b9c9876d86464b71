"""Exploration: now and then an item from further down takes a place, with a known probability.

What is never shown is never learned. An answer's items are drawn from those of the order with given probabilities of
being in it (propensities), none of which is below a floor, by systematic sampling (Madow, Annals of Mathematical
Statistics 20, 1949): one random number for each user, exactly as many items as there are places, and propensities that
hold exactly, so that what follows from an answer can be weighed by one over them.
"""

from collections.abc import Sequence

import numpy as np

from tidings_core.model import Exploration
from tidings_core.tables import Bool, Float64, Int64, UInt64, picked, smallest_first

_UNIT = 2.0**-53
_ROUNDING = 1e-9


def uniform(seeds: Sequence[int]) -> Float64:
    """A number from 0 to below 1 for each seed, f64[B]: equal for equal seeds, else as if drawn at random.

    The mixing step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    mixed: UInt64 = np.array([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], np.uint64)
    mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * _UNIT


def propensities(rule: Exploration, stays: Bool, counts: Int64, wanted: Int64) -> Float64:
    """The probabilities f64[B, K] with which the candidates at places of an order are in its answer.

    `counts` i64[B] candidates come first in each order, and the first `wanted` i64[B] of them would be the answer.
    Those that stay bool[B, K], and the first `rule.kept`, are in it for sure. The next `rule.items` after the answer
    get `rule.floor` each, or so many of them as leave the others that much; what they get the others lose, all as much.
    """
    place = np.arange(stays.shape[1])
    size = np.minimum(wanted, counts)
    inside = place < size[:, None]
    free = inside & ~stays & (place >= rule.kept)
    most = np.count_nonzero(free, axis=1)
    later = ~inside & ~stays & (place < counts[:, None])
    further = np.minimum(np.count_nonzero(later, axis=1), rule.items)
    room = np.floor(most * (1.0 - rule.floor) / rule.floor + 1e-9).astype(np.int64)
    further = np.where(most > 0, np.minimum(further, room), 0)
    lost = further * rule.floor / np.maximum(most, 1)
    beyond = later & (np.cumsum(later, axis=1) <= further[:, None])
    return np.where(beyond, rule.floor, np.where(free, 1.0 - lost[:, None], np.where(inside, 1.0, 0.0)))


def draw(chances: Float64, drawn: Float64, wanted: Int64) -> Int64:
    """An order in which those that are drawn come first: places i64[B, K], each of both parts as it was.

    chances f64[B, K] are the propensities by place, drawn f64[B] a number from 0 to below 1 for each user, wanted
    i64[B] the size of each answer. What is in the answer for sure keeps its place.
    """
    place = np.arange(chances.shape[1])
    sure = chances >= 1.0
    # An item is taken when a whole number lies within its share of the sum, which begins at what was drawn. The sum of
    # all shares is a whole number, but for rounding.
    up_to = np.cumsum(np.where(sure, 0.0, chances), axis=1) + (drawn + _ROUNDING)[:, None]
    taken = ~sure & (np.diff(np.floor(up_to), axis=1, prepend=np.floor(drawn + _ROUNDING)[:, None]) > 0)
    # Those taken fill, in their order, the places that are not held; the others come after them.
    held = sure & (place < wanted[:, None])
    rest = np.cumsum(~held & ~taken, axis=1) - 1 + np.count_nonzero(taken, axis=1)[:, None]
    nth = np.where(taken, np.cumsum(taken, axis=1) - 1, np.where(held, 0, rest))
    to = np.where(held, place, picked(smallest_first(held), nth))
    found = np.empty(chances.shape, np.int64)
    np.put_along_axis(found, to, np.broadcast_to(place, chances.shape), axis=1)
    return found
