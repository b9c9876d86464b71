"""Maps that keep the newest: of a name the later word, of the names those heard of last."""

from collections.abc import Mapping
from heapq import nlargest
from typing import TypeVar

Name = TypeVar("Name", int, str)
Word = TypeVar("Word", int, tuple[int, float])
"""When (Unix milliseconds), or when and what was said then."""


def newest(old: Mapping[Name, Word], new: Mapping[Name, Word], most: int) -> Mapping[Name, Word]:
    """Join two maps, the later word winning (of two at one time the larger), and keep the `most` with the latest."""
    if not new:
        return old
    joined = {**old, **{name: max(word, old.get(name, word)) for name, word in new.items()}}
    if len(joined) <= most:
        return joined
    return dict(nlargest(most, joined.items(), key=lambda entry: (entry[1], entry[0])))
