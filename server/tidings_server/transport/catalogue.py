"""CatalogService: bytes to what a shop says of its items, and what is served of them to bytes."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

from tidings.v1 import catalog_service_pb2 as pb
from tidings_core.catalogue import MAX_ITEMS, Word
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_server.application.read_items import ReadItems
from tidings_server.application.upsert_items import Result, Said, Taken, UpsertItems
from tidings_server.metrics import Metrics
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.catalogue_items import read_item, read_kinds, read_mask, read_time, show

MOST_TOLD = 3000
"""Characters of all faults of a batch that are told; the details of an error must fit into a header."""
MOST_ROWS_TOLD = 400
"""Characters of rows that one fault names."""
_UPSERTED: Mapping[Result, "pb.UpsertResult"] = {
    "applied": pb.UPSERT_RESULT_APPLIED,
    "older": pb.UPSERT_RESULT_OLDER,
    "unchanged": pb.UPSERT_RESULT_UNCHANGED,
}
_DELETED: Mapping[Result, "pb.DeleteResult"] = {
    "applied": pb.DELETE_RESULT_DELETED,
    "older": pb.DELETE_RESULT_OLDER,
    "not_found": pb.DELETE_RESULT_NOT_FOUND,
}

RowFault = tuple[int, str, str]
"""A row of a batch, a field of it, and what is wrong with that."""


class CatalogueHandlers:
    """The handlers of CatalogService."""

    def __init__(
        self,
        upsert: UpsertItems,
        read: ReadItems,
        now: Callable[[], float],
        metrics: Metrics,
        check: Callable[[str], None],
    ) -> None:
        """`now` gives Unix seconds; `check` raises InvalidInput or Conflict for a consistency token."""
        self._upsert = upsert
        self._read = read
        self._now = now
        self._metrics = metrics
        self._check = check
        self._taken_in = metrics.stage("catalogue")

    def upsert_items(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer UpsertItems calls together. Blocks until answers go by what they say."""
        return self._answer(calls, self._upserts, lambda taken: _upserted(taken).SerializeToString())

    def delete_items(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer DeleteItems calls together. Blocks until the items are in no answer."""
        return self._answer(calls, self._deletes, lambda taken: _deleted(taken).SerializeToString())

    def get_item(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer GetItem calls."""
        return [self._got(call.body) for call in calls]

    async def list_items(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Stream every item of the snapshot that answers now."""
        token, release = parse(pb.ListItemsRequest(), body).page_token, None
        while True:
            items, token, release = await asyncio.to_thread(self._read.page, token, release)
            shown = [show(item) for item in items]
            yield pb.ListItemsResponse(items=shown, next_page_token=token).SerializeToString()
            if not token:
                return

    def _answer(
        self,
        calls: Sequence[Call],
        read: Callable[[bytes], list[Said]],
        encode: Callable[[Taken], bytes],
    ) -> list[bytes | TidingsError]:
        asked = [_answered(read, call.body) for call in calls]
        start = time.monotonic()
        made = iter(self._upsert([one for one in asked if not isinstance(one, TidingsError)]))
        self._taken_in(time.monotonic() - start)
        answers: list[bytes | TidingsError] = []
        for one in asked:
            taken = one if isinstance(one, TidingsError) else next(made)
            if isinstance(taken, TidingsError):
                answers.append(taken)
                continue
            for result in taken.results:
                self._metrics.item(result)
            answers.append(encode(taken))
        return answers

    def _upserts(self, body: bytes) -> list[Said]:
        request = parse(pb.UpsertItemsRequest(), body)
        _check_count("items", len(request.items))
        parts, faults = read_mask(request.update_mask.paths)
        if faults:
            raise InvalidInput(*faults)
        now_us = int(self._now() * 1_000_000)
        read = [read_item(message, parts, now_us) for message in request.items]
        wrong = [(row, field, problem) for row, (_, found) in enumerate(read) for field, problem in found]
        wrong += _repeated([word.item_id for word, _ in read], "item.item_id")
        _refuse("items", wrong)
        return [
            Said(word, f"items[{row}]", {} if parts else read_kinds(message))
            for row, ((word, _), message) in enumerate(zip(read, request.items, strict=True))
        ]

    def _deletes(self, body: bytes) -> list[Said]:
        request = parse(pb.DeleteItemsRequest(), body)
        _check_count("item_ids", len(request.item_ids))
        moment, problem = read_time(request, int(self._now() * 1_000_000))
        wrong = [(row, "", found) for row, name in enumerate(request.item_ids) if (found := id_fault(name))]
        faults = [("update_time", problem)] if problem else []
        try:
            _refuse("item_ids", [*wrong, *_repeated(request.item_ids, "")])
        except InvalidInput as error:
            raise InvalidInput(*faults, *error.violations) from error
        if faults:
            raise InvalidInput(*faults)
        return [Said(Word(name, moment), f"item_ids[{row}]") for row, name in enumerate(request.item_ids)]

    def _got(self, body: bytes) -> bytes | TidingsError:
        try:
            request = parse(pb.GetItemRequest(), body)
            if problem := id_fault(request.item_id):
                raise InvalidInput(("item_id", problem))
            self._check(request.consistency_token)
            return pb.GetItemResponse(item=show(self._read.get(request.item_id))).SerializeToString()
        except TidingsError as error:
            return error


def _answered(read: Callable[[bytes], list[Said]], body: bytes) -> list[Said] | TidingsError:
    try:
        return read(body)
    except TidingsError as error:
        return error


def _upserted(taken: Taken) -> pb.UpsertItemsResponse:
    results = [_UPSERTED[result] for result in taken.results]
    return pb.UpsertItemsResponse(results=results, consistency_token=taken.token)


def _deleted(taken: Taken) -> pb.DeleteItemsResponse:
    results = [_DELETED[result] for result in taken.results]
    return pb.DeleteItemsResponse(results=results, consistency_token=taken.token)


def _check_count(field: str, count: int) -> None:
    if not 1 <= count <= MAX_ITEMS:
        raise InvalidInput((field, f"has {count} entries, must have 1 to {MAX_ITEMS}: send them in several calls"))


def _repeated(names: Iterable[str], field: str) -> list[RowFault]:
    first: dict[str, int] = {}
    found = []
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            found.append((row, field, "is there before in this call: send each item once"))
    return found


def _refuse(field: str, wrong: Sequence[RowFault]) -> None:
    """Raise InvalidInput when anything is wrong, naming every row and field.

    Rows with the same fault are told together. Of very many different faults the first are told, and how many there
    are.
    """
    if not wrong:
        return
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, name, problem in wrong:
        rows[name, problem].append(row)
    violations: list[tuple[str, str]] = []
    told = 0
    for number, ((name, problem), at) in enumerate(rows.items()):
        place = f"{field}[{at[0]}]" + (f".{name}" if name else "")
        more = f"; and so in rows {_ranges(at[1:])}" if len(at) > 1 else ""
        told += len(place) + len(problem) + len(more)
        if violations and told > MOST_TOLD:
            violations.append((field, f"has {len(rows) - number} more kinds of faults"))
            break
        violations.append((place, problem + more))
    raise InvalidInput(*violations)


def _ranges(rows: Sequence[int]) -> str:
    """Ascending numbers as ranges, such as "3, 5-9"."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    while len(", ".join(texts)) > MOST_ROWS_TOLD:
        texts = [*texts[:-2], "..."] if texts[-1] == "..." else [*texts[:-1], "..."]
    return ", ".join(texts)
