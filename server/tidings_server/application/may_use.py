"""Who of many may be part of something: of an export, a training set, a count. For whoever reads the log."""

from collections.abc import Callable, Container, Mapping, Sequence

from tidings_core.errors import StorageFailed
from tidings_core.privacy import PrivacyRules, standing_of
from tidings_core.profile import EMPTY
from tidings_core.standing import Use
from tidings_core.stored import Document
from tidings_server.application.documents import read_document

ReadDocuments = Callable[[Sequence[str]], Mapping[str, Document]]
"""The documents of users, of those who have one, such as `Store.users`. Raises StorageFailed."""


def who_may(
    use: Use, user_ids: Sequence[str], read: ReadDocuments, rules: PrivacyRules, now: int, erased: Container[str] = ()
) -> set[str]:
    """Those of some users whose data may be used so at `now` (Unix milliseconds), by what they say now.

    Of whom nothing is stored what holds for everybody holds; nobody may be who is among the `erased`, or whose document
    is damaged. Raises StorageFailed when nothing can be read.
    """
    documents = read(user_ids)
    return {one for one in user_ids if one not in erased and _may(use, documents.get(one), rules, now)}


def _may(use: Use, stored: Document | None, rules: PrivacyRules, now: int) -> bool:
    try:
        profile = EMPTY if stored is None else read_document(stored).profile
    except StorageFailed:
        return False
    return standing_of(profile, rules).may(use, now)
