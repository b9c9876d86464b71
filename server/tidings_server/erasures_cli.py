"""`tidings-server erasures`: which releases hold vectors of people who were erased since, and of whom."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tidings_core.errors import InvalidInput, NotFound, ReleaseRefused
from tidings_core.release import Manifest, known_until, list_releases, read_manifest, read_user_ids
from tidings_server.adapters.sqlite_erasures import read_erasures
from tidings_server.adapters.state_directory import KEY, read_file
from tidings_server.application.erasures import ErasedIds
from tidings_server.faults import faults_as_lines
from tidings_server.settings import Settings

_State = Annotated[Path, typer.Option(help="State directory of the server.", metavar="DIR", envvar="TIDINGS_STATE")]
_Releases = Annotated[Path, typer.Option(help="Directory of the releases.", metavar="DIR", envvar="TIDINGS_RELEASES")]


def erasures(
    state: _State = Settings.model_fields["state"].default,
    releases: _Releases = Settings.model_fields["releases"].default,
    ids: Annotated[
        str,
        typer.Option("--ids", help="Print the users of this release to leave out, one id a line.", metavar="RELEASE"),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each release.")] = False,
) -> None:
    """Say which releases hold vectors of people who were erased since: build anew, then remove them.

    Beside a running server too. The server does not know the ids of who was erased: each release's users are tried.
    `tidings-build-index fold` with the file of --ids makes a release without them, which the server does by itself
    when it folds the catalogue's changes.
    """
    with faults_as_lines():
        key = read_file(state, KEY)
        if key is None:
            raise InvalidInput(("state", f"there is no {state / KEY}: name the state directory of a server"))
        erased = ErasedIds(key, read_erasures(state))
        if ids:
            for user_id in _held(releases / ids, erased):
                print(user_id)
            return
        for found in list_releases(releases):
            if isinstance(found, Manifest):
                _tell(found, _counted(releases / found.release_id, erased), as_json)


def _counted(folder: Path, erased: ErasedIds) -> int | None:
    """How many erased users a release holds; None: it cannot be read, and is served by nobody."""
    try:
        return len(_held(folder, erased))
    except (NotFound, ReleaseRefused):
        return None


def _held(folder: Path, erased: ErasedIds) -> list[str]:
    users = read_user_ids(folder)
    return erased.among([users[row] for row in range(len(users))], known_until(read_manifest(folder)))


def _tell(release: Manifest, count: int | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"release_id": release.release_id, "users": release.user_count, "erased": count}))
    else:
        told = "cannot be read" if count is None else f"{count:,} erased of {release.user_count:,} users"
        print(f"{release.release_id}: {told}")
