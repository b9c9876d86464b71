"""What happens after ranking."""

import numpy as np

from tidings_core.tables import Bool, Int32, Int64, smallest_first


def lead(may_lead: Bool) -> Int64:
    """Order that moves the first of those that may lead, bool[B, K], to the front: positions i64[B, K].

    All others stay in the given order, and so do the lists in which none may lead.
    """
    leads = may_lead & (np.cumsum(may_lead, axis=1) == 1)
    return smallest_first(~leads)


def diversify(codes: Int32, max_per_value: int, padding: Bool | None = None) -> Int64:
    """Order that lets at most `max_per_value` items of one code come before every other code had its turn.

    codes i32[B, K], best item first; -1 means no value and is never held back. Returns positions i64[B, K]: first those
    within their code's allowance, then the rest, each part in the given order, and then what is `padding` bool[B, K].
    """
    users, width = codes.shape
    if not width:
        return np.zeros(codes.shape, np.int64)
    first = np.arange(users)[:, None] * width
    # Of each list the places by code, as places in the whole.
    order = (smallest_first(codes) + first).reshape(-1)
    ordered = codes.reshape(-1).take(order)
    starts = np.ones(len(order), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    starts[first[:, 0]] = True
    place = np.arange(len(order))
    nth = place - np.maximum.accumulate(np.where(starts, place, 0))
    last = np.zeros(len(order), np.int32)
    last[order] = (nth >= max_per_value) & (ordered >= 0)
    if padding is not None:
        last[padding.reshape(-1)] = 2
    return smallest_first(last.reshape(users, width))
