"""What happens after ranking."""

import numpy as np

from tidings_core.tables import Bool, Int32, Int64, picked, smallest_first


def lead(may_lead: Bool) -> Int64:
    """Order that moves the first of those that may lead, bool[B, K], to the front: positions i64[B, K].

    All others stay in the given order, and so do the lists in which none may lead.
    """
    leads = may_lead & (np.cumsum(may_lead, axis=1) == 1)
    return smallest_first(~leads)


def diversify(codes: Int32, max_per_value: int) -> Int64:
    """Order that lets at most `max_per_value` items of one code come before every other code had its turn.

    codes i32[B, K], best item first; -1 means no value and is never held back. Returns positions i64[B, K]: first those
    within their code's allowance, then the rest, each part in the given order.
    """
    users, width = codes.shape
    order = smallest_first(codes)
    ordered = picked(codes, order)
    starts = np.ones((users, width), np.bool_)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = np.arange(width)[None, :]
    nth = place - np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    held = np.zeros((users, width), np.bool_)
    np.put_along_axis(held, order, (nth >= max_per_value) & (ordered >= 0), axis=1)
    return smallest_first(held)
