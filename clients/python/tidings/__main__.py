"""The `tidings` command: events in, recommendations and pushes out, and the release that answers."""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from tidings import (
    client,
    commands,
    contact_commands,
    errors,
    event_lines,
    import_command,
    item_commands,
    model,
    privacy_commands,
    wire,
)

_SUMMARY = "Record events, ask a Tidings server for recommendations, send and receive pushes, change the release."
_SECONDS = 5.0
_RELEASE_SECONDS = 60.0
_AUDIENCE_SECONDS = 600.0
_IMPORT_SECONDS = 600.0
_USER = "the shop's own id of the user"

_HISTORY = """
CSV and Parquet have the columns user_id and event_time, and any of event_id, type (default: purchase), item_id,
quantity, price, category, query, value, push_id, order_id; rows that follow each other with one event_id are one
event. JSON lines are those of `tidings record --file`. A time is ISO 8601 (UTC where it names no zone), or Unix seconds
or milliseconds. Parquet needs pyarrow (pip install pyarrow).

Run the command again after whatever ended it: it goes on where it was. Rows without an event_id are numbered under the
import's name, which you then give. Rejected rows are named; then the exit status is 1. No trigger is started.
"""

_WHERE = "what items must be, such as brand=Lumo,Aurora or price<20 or new=true (quoted); may be repeated"

_LINES = """
A file holds one event on each line, as a JSON object with user_id, type, and any of items, category, query, value,
event_time, push_id, order_id, decision_token, event_id:

  {"user_id": "ann", "type": "view", "items": ["phone-3"], "event_time": "2024-05-01T12:30:00Z"}
  {"user_id": "bob", "type": "purchase", "items": [{"item_id": "phone-3", "price": 499}], "event_id": "order-17"}

Rejected lines are named, the others recorded; then the exit status is 1. With event_ids a file may be recorded again.
"""

_ITEM_LINES = """
A file holds one item on each line, as a JSON object with item_id, update_time (when the shop changed it), and any of
title, description, categories, brand, price, currency, image_url, url, publish_time, expire_time, shown, attributes,
available, stock, vector:

  {"item_id": "phone-3", "update_time": "2024-05-01T12:30:00Z", "title": "Phone 3", "categories": ["phones"]}

The lines of a batch are taken together or not at all. Of the changes of one item the one with the newest update_time
stands, so a file may be sent again.
"""

_ATTRIBUTE = 'attributes to set; a value is JSON (25, true, ["a", "b"]) or else a text'

_Actions: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    if arguments.timeout is None:
        arguments.timeout = arguments.default_timeout
    try:
        with client.Client(arguments.server, timeout=arguments.timeout) as connection:
            status: int = arguments.run(connection, arguments)
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
    return status


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
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_recommend(actions)
    _add_explain(actions)
    _add_audience(actions)
    _add_record(actions)
    _add_import(actions)
    _add_profile(actions)
    _add_update_profile(actions)
    _add_privacy(actions)
    _add_merge_profiles(actions)
    _add_send(actions)
    _add_subscribe(actions)
    contact_commands.add_contacts(actions, _common, _USER)
    _add_items(actions)
    _add_releases(actions)
    return parser


def _add_recommend(actions: _Actions) -> None:
    parser = actions.add_parser("recommend", help="items for one user, best first", parents=[_common()])
    parser.set_defaults(run=commands.recommend, refuse=parser.error, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", help=_USER)
    _add_question(parser)


def _add_question(parser: argparse.ArgumentParser) -> None:
    """What is asked for a user."""
    parser.add_argument("-k", type=int, metavar="N", help="number of items, 1 to 500 (default: the server's, 20)")
    parser.add_argument("--serving-config", default="", metavar="NAME", help='the recipe (default: "for-you")')
    parser.add_argument("--context", nargs="+", action="extend", default=[], metavar="ITEM", help="items it is about")
    parser.add_argument("--exclude", nargs="+", action="extend", default=[], metavar="ITEM", help="items to leave out")
    parser.add_argument("--query", default="", metavar="TEXT", help="what the user is searching for")
    parser.add_argument("--category", default="", metavar="NAME", help="the category being looked at")
    parser.add_argument("--where", action="append", default=[], metavar="TEST", help=_WHERE)
    parser.add_argument("--like", nargs="+", action="extend", default=[], metavar="ITEM", help="items to be like")
    parser.add_argument("--unlike", nargs="+", action="extend", default=[], metavar="ITEM", help="items not to be like")


def _add_explain(actions: _Actions) -> None:
    parser = actions.add_parser(
        "explain",
        help="why items are in an answer or a decision, or why not",
        parents=[_common()],
        usage="%(prog)s [-h] USER [ITEM ...] [options]\n       %(prog)s [-h] --decision ID [ITEM ...]",
    )
    parser.set_defaults(run=commands.explain, refuse=parser.error, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", nargs="?", help=_USER)
    parser.add_argument(
        "items", metavar="ITEM", nargs="*", help="the items, 100 at most (default: those of the answer)"
    )
    parser.add_argument("--decision", default="", metavar="ID", help="a recorded answer's decision_id, or a push_id")
    _add_question(parser)


def _add_audience(actions: _Actions) -> None:
    parser = actions.add_parser("audience", help="for whom items are best, best first", parents=[_common()])
    parser.set_defaults(run=commands.audience, refuse=parser.error, default_timeout=_AUDIENCE_SECONDS)
    parser.add_argument("items", metavar="ITEM", nargs="*", help="the items, 64 at most; a user's best one counts")
    parser.add_argument("--where", action="append", default=[], metavar="TEST", help=_WHERE)
    parser.add_argument(
        "--user-where",
        action="append",
        default=[],
        metavar="TEST",
        help="the same for users, such as tags=lifecycle:new",
    )
    parser.add_argument("--limit", type=_count, default=1000, metavar="N", help="so many users (default: 1000)")
    parser.add_argument("--min-score", type=float, metavar="S", help="nobody to whom they are worth less")
    parser.add_argument(
        "--include-refused", action="store_true", help="also those who bought, gave back or do not want the item"
    )
    parser.add_argument("--token", default="", metavar="T", help="go on where an answer to the same question ended")


def _add_record(actions: _Actions) -> None:
    types = [each.value for each in model.EventType if each is not model.EventType.UNSPECIFIED]
    parser = actions.add_parser(
        "record",
        help="what a user did: one event, or a file of them",
        parents=[_common()],
        usage="%(prog)s [-h] USER TYPE [ITEM ...] [options]\n       %(prog)s [-h] --file PATH [options]",
        epilog=_LINES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=commands.record, refuse=parser.error, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", nargs="?", help=_USER)
    parser.add_argument("type", metavar="TYPE", nargs="?", choices=types, help=", ".join(types))
    parser.add_argument("items", metavar="ITEM", nargs="*", help="the items it was done to")
    parser.add_argument("--category", default="", metavar="NAME", help="the category: of a view or a see_less")
    parser.add_argument("--query", default="", metavar="TEXT", help="the text: of a search")
    parser.add_argument("--value", type=float, metavar="V", help="money of a purchase or return, stars of a rating")
    parser.add_argument("--event-id", default="", metavar="ID", help="the shop's own id; recorded once (default: new)")
    parser.add_argument("--push-id", default="", metavar="ID", help="the push that led to it")
    parser.add_argument("--order-id", default="", metavar="ID", help="the order: of a purchase, a return or a cancel")
    parser.add_argument("--decision-token", default="", metavar="T", help="that of the answer that led to it")
    parser.add_argument("--time", type=_time, metavar="ISO", help="when, such as 2024-05-01T12:30:00Z (default: now)")
    parser.add_argument("--file", metavar="PATH", help='JSON lines, one event each; "-" reads the input')


def _add_import(actions: _Actions) -> None:
    parser = actions.add_parser(
        "import-events",
        help="history, from a file of any size; goes on where it was cut off",
        parents=[_common()],
        epilog=_HISTORY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=import_command.import_events, refuse=parser.error, default_timeout=_IMPORT_SECONDS)
    parser.add_argument("file", metavar="FILE", help="Parquet, CSV or JSON lines; the latter two also as .gz")
    parser.add_argument(
        "--import-id", default="", metavar="NAME", help="its name (default: made of the file's content)"
    )
    parser.add_argument(
        "--columns", default="", metavar="OURS=THEIRS,...", help="what the file calls our columns, where it differs"
    )


def _add_profile(actions: _Actions) -> None:
    parser = actions.add_parser("profile", help="what is known of a user", parents=[_common()])
    parser.set_defaults(run=commands.profile, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", help=_USER)


def _add_update_profile(actions: _Actions) -> None:
    parser = actions.add_parser(
        "update-profile", help="set and remove attributes and tags of a user", parents=[_common()]
    )
    parser.set_defaults(run=commands.update_profile, refuse=parser.error, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", help=_USER)
    parser.add_argument(
        "--set", nargs="+", action="extend", type=_pair, default=[], metavar="NAME=VALUE", help=_ATTRIBUTE
    )
    parser.add_argument("--remove", nargs="+", action="extend", default=[], metavar="NAME", help="attributes to remove")
    parser.add_argument(
        "--tag", nargs="+", action="extend", default=[], metavar="TAG[=WEIGHT]", help="tags to set by hand"
    )
    parser.add_argument("--until", type=_time, metavar="ISO", help="when the tags of --tag end (default: never)")
    parser.add_argument("--remove-tag", nargs="+", action="extend", default=[], metavar="TAG", help="tags to remove")
    parser.add_argument("--source", default="", metavar="NAME", help="who says so, such as crm")
    parser.add_argument("--event-id", default="", metavar="ID", help="the shop's own id; done once (default: new)")
    parser.add_argument("--time", type=_time, metavar="ISO", help="since when it is so (default: now)")


def _add_privacy(actions: _Actions) -> None:
    """What a person has a right to."""
    said = actions.add_parser(
        "set-preferences", help="what a person said about pushes and consent", parents=[_common()]
    )
    said.set_defaults(run=privacy_commands.set_preferences, refuse=said.error, default_timeout=_SECONDS)
    said.add_argument("user", metavar="USER", help=_USER)
    for option, what in (
        ("channel", "stream, email, sms, web_push, mobile_push, webhook"),
        ("topic", "what pushes are about"),
        ("consent", "profiling, marketing, training"),
    ):
        said.add_argument(
            f"--{option}", nargs="+", action="extend", type=_pair, default=[], metavar="NAME=yes|no|default", help=what
        )
    said.add_argument(
        "--quiet", nargs="*", metavar="ZONE|DAY=HH:MM-HH:MM", help="a time zone, then times (day: mon to sun, or daily)"
    )
    said.add_argument("--max-per-day", type=int, metavar="N", help="pushes in a day at most; -1: the server's setting")
    said.add_argument("--lift-erasure", action="store_true", help="the person was erased and came back")
    said.add_argument("--event-id", default="", metavar="ID", help="the shop's own id; done once (default: new)")
    export = actions.add_parser(
        "export-profile", help="everything that is kept of a person, as JSON lines", parents=[_common()]
    )
    export.set_defaults(run=privacy_commands.export_profile, default_timeout=_AUDIENCE_SECONDS)
    export.add_argument("user", metavar="USER", help=_USER)
    erase = actions.add_parser("erase-profile", help="erase a person, for good", parents=[_common()])
    erase.set_defaults(run=privacy_commands.erase_profile, refuse=erase.error, default_timeout=_RELEASE_SECONDS)
    erase.add_argument("user", metavar="USER", help=_USER)
    erase.add_argument("--yes", action="store_true", help="say that it is meant: it cannot be undone")


def _add_merge_profiles(actions: _Actions) -> None:
    parser = actions.add_parser("merge-profiles", help="make two ids one person", parents=[_common()])
    parser.set_defaults(run=commands.merge_profiles, default_timeout=_SECONDS)
    parser.add_argument("visitor", metavar="VISITOR", help="the id that turned out to be the user")
    parser.add_argument("user", metavar="USER", help=_USER)


def _add_send(actions: _Actions) -> None:
    parser = actions.add_parser("send", help="send a push to one user", parents=[_common()])
    parser.set_defaults(run=commands.send, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", help=_USER)
    parser.add_argument("title", metavar="TITLE", help="one line")
    parser.add_argument("--body", default="", metavar="TEXT", help="a sentence or two")
    parser.add_argument(
        "--item", nargs="+", action="extend", default=[], metavar="ITEM", help="items it is about, 20 at most"
    )
    parser.add_argument("--url", default="", metavar="URL", help="address to open")
    parser.add_argument("--ttl", type=float, metavar="S", help="seconds it is of use (default: the server's setting)")
    parser.add_argument(
        "--collapse-key", default="", metavar="KEY", help="takes the place of the older one of this key"
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", type=_pair, default=[], metavar="KEY=VALUE", help="texts to give along"
    )
    parser.add_argument("--request-id", default="", metavar="ID", help="sent once only under this id (default: new)")


def _add_subscribe(actions: _Actions) -> None:
    parser = actions.add_parser("subscribe", help="a user's pushes as they come, until Ctrl-C", parents=[_common()])
    parser.set_defaults(run=commands.subscribe, default_timeout=_SECONDS)
    parser.add_argument("user", metavar="USER", help=_USER)
    parser.add_argument(
        "--device", default="", metavar="D", help="name of the device; each device gets every push once"
    )
    parser.add_argument("--count", type=_count, metavar="N", help="end after so many")


def _add_items(actions: _Actions) -> None:
    items = actions.add_parser("items", help="see and change the catalogue", parents=[_common()])
    actions = items.add_subparsers(required=True, metavar="ACTION")
    upsert = actions.add_parser(
        "upsert",
        help="add items or describe them anew, from a file",
        parents=[_common()],
        epilog=_ITEM_LINES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    upsert.set_defaults(run=item_commands.upsert, default_timeout=_SECONDS)
    upsert.add_argument("file", metavar="FILE", help='JSON lines, one item each; "-" reads the input')
    upsert.add_argument(
        "--only", nargs="+", default=[], choices=("price", "stock", "available"), help="change these and nothing else"
    )
    get = actions.add_parser("get", help="one item as it is served", parents=[_common()])
    get.set_defaults(run=item_commands.get, default_timeout=_SECONDS)
    get.add_argument("item", metavar="ITEM", help="the shop's own id")
    listing = actions.add_parser("list", help="every item as it is served", parents=[_common()])
    listing.set_defaults(run=item_commands.list_items, default_timeout=_RELEASE_SECONDS)
    delete = actions.add_parser("delete", help="take items out", parents=[_common()])
    delete.set_defaults(run=item_commands.delete, default_timeout=_SECONDS)
    delete.add_argument("items", metavar="ITEM", nargs="+", help="the shop's own ids, 1000 at most")
    delete.add_argument("--time", type=_time, metavar="ISO", help="as of when, later changes stay (default: now)")


def _add_releases(actions: _Actions) -> None:
    releases = actions.add_parser("releases", help="see and change the release that answers", parents=[_common()])
    actions = releases.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every release, newest first", parents=[_common()])
    listing.set_defaults(run=commands.list_releases, default_timeout=_SECONDS)
    promote = actions.add_parser("promote", help="let a release answer", parents=[_common()])
    promote.set_defaults(run=commands.promote, default_timeout=_RELEASE_SECONDS)
    promote.add_argument("release", metavar="ID", help="name of the release")
    rollback = actions.add_parser("rollback", help="go back to the release before", parents=[_common()])
    rollback.set_defaults(run=commands.rollback, default_timeout=_RELEASE_SECONDS)
    rollback.add_argument("--from", dest="leave", default="", metavar="ID", help="only if this release is serving")


def _time(text: str) -> datetime:
    try:
        return event_lines.time_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


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
        help=f"seconds to wait (default: {_SECONDS:g}; release: {_RELEASE_SECONDS:g}; audience: {_AUDIENCE_SECONDS:g})",
    )
    common.add_argument("--json", action="store_true", help="print JSON: one line for each result")
    return common


def _version() -> str:
    try:
        return importlib.metadata.version("tidings")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
