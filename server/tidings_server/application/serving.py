"""The release that answers, and the record of what was promoted before it."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from tidings_core.errors import Conflict, InvalidInput
from tidings_core.release import Release

RECORD = "serving.json"
MAX_EARLIER = 100
"""So many releases one can roll back through; older ones are forgotten."""
MAX_TIMES = 1000
"""So many promote times are kept, the latest ones."""


class Files(Protocol):
    """Keeps small files through a crash."""

    def read(self, name: str) -> bytes | None:
        """The content of a file, None when there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, whole or not at all; on return it survives a crash."""
        ...


class Releases(Protocol):
    """Opens releases."""

    def open(self, release_id: str) -> Release:
        """Open and validate a release. Raises InvalidInput, NotFound or ReleaseRefused."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """What was promoted: the serving release, those before it (oldest first), and when each was last promoted.

    `serving` is "" when nothing was promoted yet; `promote_times` maps release id to Unix seconds; `by_rollback` says
    that it serves since somebody went back to it.
    """

    serving: str = ""
    earlier: tuple[str, ...] = ()
    promote_times: Mapping[str, float] = field(default_factory=dict)
    by_rollback: bool = False

    def promoted(self, release_id: str, now: float) -> "Record":
        """The record after a promotion."""
        earlier = (*self.earlier, self.serving) if self.serving else self.earlier
        return Record(release_id, earlier[-MAX_EARLIER:], self._timed(release_id, now))

    def rolled_back(self, now: float) -> "Record":
        """The record after a rollback. Raises Conflict when there is nothing to roll back to."""
        if not self.earlier:
            raise Conflict(
                f"no release was promoted before {self.serving}: there is nothing to roll back to"
                if self.serving
                else "no release is promoted: there is nothing to roll back from"
            )
        return Record(self.earlier[-1], self.earlier[:-1], self._timed(self.earlier[-1], now), by_rollback=True)

    def _timed(self, release_id: str, now: float) -> dict[str, float]:
        times = {**self.promote_times, release_id: now}
        return dict(sorted(times.items(), key=lambda entry: entry[1])[-MAX_TIMES:])


class Serving:
    """Holds the release that answers. Reading `release` is one attribute read; a change is one assignment.

    `lock` is held by whoever changes it, from opening the new release to the swap, so that changes come one by one.
    """

    def __init__(
        self,
        files: Files,
        on_change: Callable[[], None] = lambda: None,
        prepare: Callable[[Release], Release] = lambda release: release,
        renew: Callable[[Release], Release] = lambda release: release,
        dress: Callable[[Release], Release] = lambda release: release,
    ) -> None:
        """Read the record. `on_change` is called after each swap, in the thread that made it.

        `prepare` makes of a release the one that will answer, and `renew`, right before it does, of that one the
        newest; what they raise keeps the release from answering. `dress` puts on it what is no part of it and answers
        with it, such as controls; it raises nothing.

        Raises InvalidInput when the record is damaged.
        """
        self.release: Release | None = None
        self.record = read_serving(files.read)
        self.lock = threading.Lock()
        self._files = files
        self._on_change = on_change
        self._prepare = prepare
        self._renew = renew
        self._dress = dress
        self._assigning = threading.Lock()

    def renew(self, make: Callable[[Release], Release]) -> None:
        """Let what `make` makes of the serving release answer in its place: the same release, newer in what changes."""
        with self._assigning:
            if self.release is not None and (newer := make(self.release)) is not self.release:
                self.release = self._dress(newer)

    def dress_again(self) -> None:
        """Let the serving release answer with what is put on it by now."""
        with self._assigning:
            if self.release is not None:
                self.release = self._dress(self.release)

    def swap(self, release: Release, record: Record) -> None:
        """Keep the record on disk, then let the release answer. Call it with `lock` held."""
        release = self._prepare(release)

        def keep() -> None:
            self._files.write(RECORD, json.dumps({"format": 1, **asdict(record)}, indent=1).encode() + b"\n")

        self._take(release, record, keep)

    def resume(self, releases: Releases, refused: Callable[[str, Exception], None]) -> None:
        """At start: open the promoted release, or the newest earlier one that can be opened.

        Each one that cannot goes to `refused`. The record on disk stays as it is, so that a release that is mended
        answers again after the next start.
        """
        with self.lock:
            record = self.record
            while record.serving:
                try:
                    release = releases.open(record.serving)
                    release = self._prepare(release)
                except Exception as error:  # Whatever is wrong with one release, an earlier one may answer.
                    refused(record.serving, error)
                    last = record.earlier[-1:]
                    record = replace(record, serving=last[0] if last else "", earlier=record.earlier[:-1])
                else:
                    self._take(release, record)
                    return
            if self.record.serving:
                self.record = replace(self.record, serving="", earlier=(*self.record.earlier, self.record.serving))

    def _take(self, release: Release, record: Record, keep: Callable[[], None] = lambda: None) -> None:
        with self._assigning:
            release = self._dress(self._renew(release))
            keep()
            self.record = record
            self.release = release
        self._on_change()


def read_serving(read: Callable[[str], bytes | None]) -> Record:
    """The record of what was promoted, from the file that `read` reads. Raises InvalidInput when it is damaged."""
    content = read(RECORD)
    if content is None:
        return Record()
    try:
        fields = json.loads(content)
        if fields.pop("format") != 1:
            raise ValueError("its format is not 1")
        return TypeAdapter(Record).validate_python(fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InvalidInput(
            ("state", f"{RECORD} is damaged ({what}): remove it to start with no release, then promote one")
        ) from error
