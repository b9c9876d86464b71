"""What a release on disk holds, what it can serve, what it cannot and why, and whether it is whole."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidings_core.errors import ReleaseRefused
from tidings_core.release import Manifest, open_release, read_manifest
from tidings_core.sources import SOURCES


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a release directory.

    `problem` says why the server would refuse it, "" when it would not. `manifest` is None when it cannot be read.
    `not_offered` maps what answers have to do without to the reason.
    """

    release_id: str
    problem: str
    manifest: Manifest | None
    not_offered: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "release_id": self.release_id,
            "broken": bool(self.problem),
            "problem": self.problem,
            "manifest": None if self.manifest is None else asdict(self.manifest),
            "not_offered": self.not_offered,
        }


def inspect_release(folder: Path) -> Inspection:
    """Open a release as the server would and tell what is in it. Raises NotFound when it is not there."""
    # "releases/20260101..." and "." name the same release.
    folder = folder.resolve()
    try:
        manifest = read_manifest(folder)
    except ReleaseRefused as refused:
        return Inspection(folder.name, refused.problem, None, {})
    try:
        open_release(folder)
        problem = ""
    except ReleaseRefused as refused:
        problem = refused.problem
    return Inspection(manifest.release_id, problem, manifest, not_offered(manifest))


def not_offered(manifest: Manifest) -> dict[str, str]:
    """What a release cannot offer, each with the reason."""
    missing = {name: source.lacking for name, source in SOURCES.items() if name not in manifest.sources}
    if not manifest.ranked:
        missing["ranker"] = "built without one: answers keep the order of retrieval"
    if "histories.offsets.npy" not in manifest.files:
        missing["histories"] = "the release has no histories: nothing bought is left out of an answer"
    if manifest.fold_in is None and not manifest.encoded:
        missing["fold-in"] = "not made from ALS embeddings of a model: a newcomer gets the mean of what they like"
    for name in ("category", "brand"):
        if name not in manifest.attributes:
            missing[f"attribute {name}"] = "the catalogue had no such column, or there was none"
    return missing
