"""The command `tidings-build-index`."""

import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tidings_core.errors import InvalidInput
from tidings_index_builder import fold_cli, show
from tidings_index_builder.embeddings import read_embeddings
from tidings_index_builder.evaluate import evaluate as evaluate_release
from tidings_index_builder.inspection import inspect_release, not_offered
from tidings_index_builder.job import run_build
from tidings_index_builder.rebuild import Outcome
from tidings_index_builder.rebuild import rebuild as run_rebuild
from tidings_index_builder.settings import BuildSettings, checked, read_config
from tidings_index_builder.terminal import faults_told, print_json

COMMAND = "tidings-build-index"
BUSY = 3
"""Exit status of a rebuild that found another one at work."""

app = typer.Typer(
    help="Make releases: embeddings of any trainer in, a measured and validated release out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
ReleaseDirectory = Annotated[Path, typer.Argument(metavar="RELEASE", help="A release's directory.")]
EMBEDDINGS = "Parquet or Arrow with id and embedding, or .npy, or .npz."


@app.command()
def build(
    out: Annotated[Path, typer.Option(metavar="RELEASES", help="The releases directory to write into.")],
    items: Annotated[Path | None, typer.Option(help=f"Item embeddings: {EMBEDDINGS}")] = None,
    users: Annotated[Path | None, typer.Option(help=f"User embeddings: {EMBEDDINGS}")] = None,
    item_ids: Annotated[Path | None, typer.Option(help="Ids for .npy or .npz, one per line; else row numbers.")] = None,
    user_ids: Annotated[Path | None, typer.Option(help="The same for users.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Parquet, Arrow or CSV with id, title, price, ...")] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:KIND]", help="A further catalogue column to keep. May be repeated."),
    ] = None,
    ranker: Annotated[Path | None, typer.Option(help="An ONNX ranker.")] = None,
    model: Annotated[Path | None, typer.Option(help="A directory that `tidings-train fit` wrote.")] = None,
    metric: Annotated[str, typer.Option(help="inner_product, cosine or l2.")] = "inner_product",
    recall_target: Annotated[float, typer.Option(help="Recall@k to reach, above 0 and at most 1.")] = 0.95,
    k: Annotated[int, typer.Option(help="How many nearest items recall is measured over.")] = 100,
    seed: Annotated[int, typer.Option(help="Draws the samples.")] = 0,
    threads: Annotated[int, typer.Option(help="For building; speed is measured on one.")] = 1,
    max_bytes_per_item: Annotated[
        float | None, typer.Option(help="The most the index may take; else the fastest is chosen, however large.")
    ] = None,
    max_build_seconds: Annotated[
        float | None, typer.Option(help="The most that choosing and building the index may take.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose an index by measuring, and write a release."""
    given: dict[str, Any] = {
        "releases": out,
        "items": items,
        "users": users,
        "item_ids": item_ids,
        "user_ids": user_ids,
        "catalogue": catalogue,
        "attributes": tuple(attribute or ()),
        "ranker": ranker,
        "model": model,
        "metric": metric,
        "recall_target": recall_target,
        "k": k,
        "seed": seed,
        "threads": threads,
        "max_bytes_per_item": max_bytes_per_item,
        "max_build_seconds": max_build_seconds,
    }
    with faults_told(COMMAND):
        with show.ShownProgress(_stderr()) as progress:
            manifest = run_build(checked(BuildSettings, given), time.time(), progress)
        path, lacking = out / manifest.release_id, not_offered(manifest)
        if as_json:
            print_json({"path": str(path), "not_offered": lacking, **asdict(manifest)})
        else:
            show.print_build(Console(), manifest, str(path), lacking)


@app.command()
def inspect(release: ReleaseDirectory, as_json: Json = False) -> None:
    """Tell what a release holds, what it cannot offer, and whether it is whole."""
    with faults_told(COMMAND):
        found = inspect_release(release)
        if as_json:
            print_json(found.as_json())
        else:
            show.print_inspection(Console(), found)
        if found.problem:
            raise typer.Exit(1)


@app.command()
def evaluate(
    release: ReleaseDirectory,
    queries: Annotated[Path, typer.Option(help=f"Query embeddings: {EMBEDDINGS}")],
    query_ids: Annotated[Path | None, typer.Option(help="Ids for .npy or .npz, one per line.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The best items of each query, .npy [Q, k or more]: item rows or ids.")
    ] = None,
    k: Annotated[int, typer.Option(help="How many nearest items count.")] = 100,
    as_json: Json = False,
) -> None:
    """Measure recall@k and speed of a release's index, against exact search or a truth of your own."""
    with faults_told(COMMAND):
        with show.ShownProgress(_stderr()) as progress:
            found = evaluate_release(
                release, read_embeddings(queries, query_ids, "queries"), k, truth, progress=progress
            )
        if as_json:
            print_json(asdict(found))
        else:
            show.print_evaluation(Console(), found)


@app.command()
def rebuild(
    config: Annotated[Path, typer.Option(help="A TOML file with the inputs of a build, releases, server and keep.")],
    server: Annotated[
        str | None, typer.Option(metavar="ADDR", help="host:port to promote on; else the file's, else none.")
    ] = None,
) -> None:
    """Build, promote and prune, for a scheduler: one JSON line on standard output says what happened.

    Exit status 0: promoted, or built when no server is named; 1: failed; 3: another rebuild is running.
    """
    with show.ShownProgress(_stderr()) as progress:
        try:
            outcome = run_rebuild(read_config(config, server), time.time(), progress)
        except InvalidInput as error:
            outcome = Outcome(outcome="failed", error=str(error))
        except Exception as error:  # Whoever reads the line must learn of a fault of ours too.
            traceback.print_exc()
            outcome = Outcome(outcome="failed", error=f"{type(error).__name__}: {error}")
    print_json(asdict(outcome), indent=None)
    if outcome.outcome == "busy":
        raise typer.Exit(BUSY)
    if outcome.outcome == "failed":
        raise typer.Exit(1)


app.command(name="fold")(fold_cli.run)


def _stderr() -> Console:
    return Console(stderr=True)
