"""Where a device goes on in its user's stream, and the writing down of what it received."""

from dataclasses import dataclass

from tidings_server.application.documents import UserDocument
from tidings_server.application.store import Transaction


@dataclass(frozen=True, slots=True)
class Resume:
    """A place that a device says it was at: in the history `epoch`, it received everything up to `offset`."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subscription begins.

    It sends what comes after `offset`. `recovered` is whether nothing that was dropped lies after the place asked for.
    `received` is the offset to write down as the device's own, None when it is written already.
    """

    offset: int
    recovered: bool
    received: int | None = None


def find_place(document: UserDocument, device_id: str, resume: Resume | None, epoch: str) -> Place:
    """Where a device begins.

    A device goes on after what it acknowledged; one of which nothing is known, after what any device did. That place
    is written down at once, so that what others acknowledge from now on is not taken for its own. A `resume` that this
    history can have given carries it further, never back: what was acknowledged is not sent again.
    """
    known = document.devices.get(device_id)
    start = document.acknowledged if known is None else known[0]
    recovered = start >= document.lost_through
    if resume is not None:
        recovered = resume.epoch == epoch and document.lost_through <= resume.offset <= document.newest_offset
        if resume.epoch == epoch and resume.offset <= document.newest_offset:
            start = resume.offset if known is None else max(resume.offset, known[0])
    return Place(start, recovered, received=start if known is None or start > known[0] else None)


def received(
    transaction: Transaction, document: UserDocument, user_id: str, device_id: str, offset: int, now: int
) -> UserDocument:
    """The document after a device received everything up to `offset`, which the ledger then has as delivered.

    The same document, and nothing changed, when the device had acknowledged as much before. A device that is not known
    has its place in it afterwards, 0 too.
    """
    if offset <= document.devices.get(device_id, (-1, 0))[0]:
        return document
    if offset > document.acknowledged:
        transaction.ledger.advance(user_id, document.acknowledged, offset, "delivered", now)
    return document.with_acknowledged(device_id, offset, now)
