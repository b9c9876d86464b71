"""Send a push that a shop wrote itself: the same stream, the same caps, the same ledger as those of triggers."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import structlog

from tidings_core.errors import Conflict
from tidings_core.may_push import push_bar
from tidings_core.stored import Entry
from tidings_server.application.decision_record import Basis, Outcome, pack_basis, pack_record
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.serving import Serving
from tidings_server.application.store import Store, Transaction
from tidings_server.application.write_push import (
    Draft,
    Encode,
    Meter,
    Publish,
    Rules,
    Written,
    entry_of,
    log_name,
    push_id_of,
    write_push,
)

CAUSE = "api"
PREFIX = "api/"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A push to send, without faults. `ttl_seconds` is how long it is of use.

    One that was `asked_for`, such as word of an order, needs no consent to marketing and comes also in quiet hours.
    """

    request_id: str
    user_id: str
    title: str
    ttl_seconds: float
    body: str = ""
    item_ids: tuple[str, ...] = ()
    url: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    collapse_key: str = ""
    topic: str = ""
    asked_for: bool = False

    @property
    def decision_id(self) -> str:
        """The id of the decision, the same for every repetition."""
        return PREFIX + self.request_id


@dataclass(frozen=True, slots=True)
class _Made:
    """The entry of a request, and what was written for it now; None when it was there before."""

    entry: Entry
    written: Written | None = None


class SendPush:
    """Sends pushes."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        serving: Serving,
        encode: Encode,
        rules: Rules,
        publish: Publish,
        meter: Meter,
        now: Callable[[], float],
    ) -> None:
        """`publish` is called in the store's writer thread. `now` gives Unix seconds."""
        self._store = store
        self._documents = documents
        self._serving = serving
        self._encode = encode
        self._rules = rules
        self._publish = publish
        self._meter = meter
        self._now = now

    def __call__(self, request: PushRequest) -> "Future[Entry]":
        """The Future of what became of a push: an entry whose state was first `sent`, or is `suppressed`.

        It is done when that is on disk, and raises Conflict when the same request_id came for another user before,
        StorageFull or StorageFailed. Raises Overloaded or Stopping at once.
        """
        now = int(self._now() * 1000)
        release = self._serving.release
        snapshot = None if release is None else release.snapshot
        rows = [-1] * len(request.item_ids) if snapshot is None else snapshot.items.find_many(request.item_ids).tolist()
        draft = Draft(
            push_id=push_id_of(request.decision_id),
            created=now,
            expires=now + int(request.ttl_seconds * 1000),
            title=request.title,
            body=request.body,
            url=request.url,
            items=rows,
            item_ids=request.item_ids,
            collapse_key=request.collapse_key,
            data=request.data,
        )
        basis = pack_basis(Basis(request.decision_id, now, request.user_id, CAUSE))
        made = self._store.write(partial(self._send, request, draft, self._encode(draft, snapshot), basis))
        answer: Future[Entry] = Future()
        made.add_done_callback(partial(self._done, answer))
        return answer

    def _send(self, request: PushRequest, draft: Draft, content: bytes, basis: bytes, tx: Transaction) -> _Made:
        """The transaction of one request."""
        before = tx.ledger.get(request.decision_id)
        stored = tx.users.get(request.user_id)
        user_id = stored.whose(request.user_id)
        if before is not None:
            if before.user_id != user_id:
                raise Conflict(
                    f"the request_id {request.request_id!r} was used for another user before: each push needs its own"
                )
            return _Made(before)
        document = self._documents.decode(request.user_id, stored)
        used, cap = document.pushes_in_a_day(draft.created), self._rules.cap(document)
        reason: str = push_bar(
            document.profile, self._rules.privacy, draft.created, request.topic, request.asked_for
        ) or ("CAP_DAY" if used >= cap else "")
        outcome, written = Outcome(reason, cap, used, draft), Written(reason)
        if not reason:
            written = write_push(tx, user_id, document, stored.version, draft, content, self._rules.history)
            outcome = Outcome("", cap, used, draft, document.newest_offset + 1)
        record = pack_record(basis, outcome, None)
        entry = entry_of(written, request.decision_id, user_id, draft.created, CAUSE, record)
        tx.ledger.add(entry)
        return _Made(entry, written)

    def _done(self, answer: "Future[Entry]", made: "Future[_Made]") -> None:
        """Tell the subscribers, then the caller. In the writer's thread."""
        error = made.exception()
        if error is not None:
            answer.set_exception(error)
            return
        entry, written = made.result().entry, made.result().written
        try:
            if written is not None:
                self._meter.decision(CAUSE, written.reason or "sent")
                if written.push is not None:
                    if written.document is not None:
                        self._documents.keep(written.user_id, written.version, written.document, written.size)
                    self._publish(written.user_id, written.push, written.withdrawn)
        except Exception:
            log.exception("telling of a push failed", decision=log_name(entry.decision_id))
        finally:
            answer.set_result(entry)
