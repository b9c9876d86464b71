"""Preview a tag: how many users would have it, by the rules of a file of settings that need not be in use."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tidings_core.errors import StorageFailed
from tidings_core.stored import Document
from tidings_server.application.documents import read_document
from tidings_server.application.user_tags import UserTags


@dataclass(frozen=True, slots=True)
class TagPreview:
    """Of `users` so many would `have` a tag or any of its family; `tags` counts each. `damaged` could not be read.

    `withheld`: some counts are so small that they are not told; `have` is 0 when it is one of them.
    """

    name: str
    users: int
    have: int
    tags: Mapping[str, int]
    damaged: int
    withheld: bool = False


def preview_tag(
    name: str,
    documents: Iterable[tuple[str, Document]],
    tags: UserTags,
    now_ms: int,
    told: Callable[[], None] = lambda: None,
    least: int = 0,
) -> TagPreview:
    """Ask for a tag or family of all users at `now_ms` (Unix milliseconds); `told` is called for each of them.

    Counts below `least` are withheld.
    """
    users = have = damaged = 0
    counts: Counter[str] = Counter()
    for _, stored in documents:
        users += 1
        told()
        try:
            found, _ = tags.found((name,), read_document(stored).profile, now_ms)
        except StorageFailed:
            damaged += 1
            continue
        have += bool(found)
        counts.update(found)
    kept = {tag: count for tag, count in counts.most_common() if count >= least}
    withheld = have < least or len(kept) < len(counts)
    return TagPreview(name, users, have if have >= least else 0, kept, damaged, withheld)
