"""Who is asked for: users of the release that a server serves."""

from pathlib import Path

import tidings

ENOUGH = 20_000
"""People who are asked for at most when the server names them."""


def read_people(releases: str) -> list[str]:
    """Ids of all users of the newest release in a directory."""
    from tidings_core.release import Manifest, list_releases, open_release

    newest = next((found for found in list_releases(Path(releases)) if isinstance(found, Manifest)), None)
    if newest is None:
        raise SystemExit(f"{releases} has no release: build one, or name another directory in TIDINGS_RELEASES")
    users = open_release(Path(releases) / newest.release_id).snapshot.users
    return [users[row] for row in range(len(users))]


def find_people(client: tidings.Client) -> list[str]:
    """Ids of users of a server's release: those for whom what sells best is best."""
    trending = [one.item.item_id for one in client.recommend("nobody", k=50, timeout=10).items]
    pages = client.find_audience(trending, limit=ENOUGH, include_refused=True) if trending else ()
    found = [member.user_id for page in pages for member in page.members]
    if not found:
        raise SystemExit("the server knows no users: promote a release, or name its directory in TIDINGS_RELEASES")
    return found
