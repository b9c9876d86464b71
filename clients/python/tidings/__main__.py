"""The `tidings` command: ask a server for recommendations, see and change the release that answers."""

import argparse
import codecs
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from tidings import client, errors, model, show, wire

_SUMMARY = "Ask a Tidings server for recommendations; see and change the release that answers."
_SECONDS = 5.0
_RELEASE_SECONDS = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        print(_answer(arguments))
        sys.stdout.flush()
    except errors.TidingsError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Python would complain of the closed pipe or full disk once more when it flushes on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0
        print(f"tidings: cannot write the answer: {error}", file=sys.stderr)
        return 1
    return 0


def _answer(arguments: argparse.Namespace) -> str:
    """Make the call that was asked for and return what to print."""
    seconds = arguments.default_timeout if arguments.timeout is None else arguments.timeout
    with client.Client(arguments.server, timeout=seconds) as connection:
        result = arguments.ask(connection, arguments, seconds)
    encoding = sys.stdout.encoding or "utf-8"
    utf8 = codecs.lookup(encoding).name == "utf-8"
    if arguments.json:
        return show.as_json(result, ascii_only=not utf8)
    text: str = arguments.show(result)
    return text.encode(encoding, "replace").decode(encoding)


def _recommend(connection: client.Client, arguments: argparse.Namespace, seconds: float) -> model.Recommendation:
    return connection.recommend(
        arguments.user,
        k=arguments.k,
        serving_config=arguments.serving_config,
        context_item_ids=arguments.context,
        exclude_item_ids=arguments.exclude,
        timeout=seconds,
    )


def _list(connection: client.Client, _: argparse.Namespace, seconds: float) -> list[model.Release]:
    return connection.list_releases(timeout=seconds)


def _promote(connection: client.Client, arguments: argparse.Namespace, seconds: float) -> model.Promotion:
    return connection.promote_release(arguments.release, timeout=seconds)


def _rollback(connection: client.Client, arguments: argparse.Namespace, seconds: float) -> model.Promotion:
    return connection.rollback_release(arguments.leave, timeout=seconds)


def _fail(error: errors.TidingsError) -> int:
    print(f"tidings: {' '.join(error.message.split())}", file=sys.stderr)
    if isinstance(error, errors.InvalidArgument):
        for field, description in error.fields:
            # With one bad field the message often says it all.
            if description not in error.message:
                print(f"  {field}: {' '.join(description.split())}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidings", description=_SUMMARY, parents=[_common()])
    parser.set_defaults(server=os.environ.get("TIDINGS_SERVER") or wire.DEFAULT_ADDRESS, timeout=None, json=False)
    parser.add_argument("--version", action="version", version=f"tidings {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    recommend = commands.add_parser("recommend", help="items for one user, best first", parents=[_common()])
    recommend.set_defaults(ask=_recommend, show=show.recommendation, default_timeout=_SECONDS)
    recommend.add_argument("user", metavar="USER", help="the shop's own id of the user")
    recommend.add_argument("-k", type=int, metavar="N", help="number of items, 1 to 500 (default: the server's, 20)")
    recommend.add_argument("--serving-config", default="", metavar="NAME", help='the recipe (default: "for-you")')
    recommend.add_argument(
        "--context", nargs="+", action="extend", default=[], metavar="ITEM", help="items it is about"
    )
    recommend.add_argument(
        "--exclude", nargs="+", action="extend", default=[], metavar="ITEM", help="items to leave out"
    )

    releases = commands.add_parser("releases", help="see and change the release that answers", parents=[_common()])
    actions = releases.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every release, newest first", parents=[_common()])
    listing.set_defaults(ask=_list, show=show.releases, default_timeout=_SECONDS)
    promote = actions.add_parser("promote", help="let a release answer", parents=[_common()])
    promote.set_defaults(ask=_promote, show=show.promotion, default_timeout=_RELEASE_SECONDS)
    promote.add_argument("release", metavar="ID", help="name of the release")
    rollback = actions.add_parser("rollback", help="go back to the release before", parents=[_common()])
    rollback.set_defaults(ask=_rollback, show=show.promotion, default_timeout=_RELEASE_SECONDS)
    rollback.add_argument("--from", dest="leave", default="", metavar="ID", help="only if this release is serving")
    return parser


def _common() -> argparse.ArgumentParser:
    # SUPPRESS lets the options stand before or after the command: the later parser overwrites only what it was given.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--server", metavar="ADDR", help=f"host:port (default: $TIDINGS_SERVER, else {wire.DEFAULT_ADDRESS})"
    )
    common.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help=f"seconds to wait (default: {_SECONDS:g}; promote and rollback: {_RELEASE_SECONDS:g})",
    )
    common.add_argument("--json", action="store_true", help="print one line of JSON")
    return common


def _version() -> str:
    try:
        return importlib.metadata.version("tidings")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
