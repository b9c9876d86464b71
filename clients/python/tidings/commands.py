"""What each `tidings` command does with a connection: ask, print, and return the exit status."""

import argparse
import codecs
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tidings import errors, event_lines, filters, model, model_profile, show, show_explain
from tidings.client import Client

_BATCH = 500
_BATCH_BYTES = 1 << 20  # of lines, so that long ones stay below a server's limit of 4 MiB
_STATUSES = (model.EventStatus.ACCEPTED, model.EventStatus.DUPLICATE, model.EventStatus.REJECTED)


def say(arguments: argparse.Namespace, value: object, render: Callable[..., str]) -> None:
    """Print a result: as one line of JSON when asked to, otherwise as text that the terminal can show."""
    encoding = sys.stdout.encoding or "utf-8"
    if arguments.json:
        text = show.as_json(value, ascii_only=codecs.lookup(encoding).name != "utf-8")
    else:
        text = render(value).encode(encoding, "replace").decode(encoding)
    print(text, flush=True)


def recommend(connection: Client, arguments: argparse.Namespace) -> int:
    """Print items for a user."""
    answer = connection.recommend(arguments.user, **_question(arguments))
    say(arguments, answer, show.recommendation)
    return 0


def _where(arguments: argparse.Namespace, option: str = "where") -> filters.Filter | None:
    """What items must be, or users."""
    try:
        return filters.parse(getattr(arguments, option))
    except ValueError as error:
        arguments.refuse(f"--{option.replace('_', '-')} {error}")
        raise


def _question(arguments: argparse.Namespace) -> dict[str, Any]:
    """What is asked for a user, as `recommend` and RecommendQuery take it."""
    return {
        "k": arguments.k,
        "serving_config": arguments.serving_config,
        "context_item_ids": arguments.context,
        "exclude_item_ids": arguments.exclude,
        "query": arguments.query,
        "category": arguments.category,
        "filter": _where(arguments),
        "examples": model.RecommendExamples(arguments.like, arguments.unlike),
    }


def explain(connection: Client, arguments: argparse.Namespace) -> int:
    """Print why items are in an answer or a decision, or why not."""
    if arguments.decision:
        if arguments.user:
            arguments.items.insert(0, arguments.user)
        found = connection.explain_decision(arguments.decision, arguments.items)
    elif arguments.user is None:
        arguments.refuse("USER is needed, or --decision ID")
    else:
        question = model.RecommendQuery(arguments.user, **_question(arguments))
        found = connection.explain(question, arguments.items)
    say(arguments, found, show_explain.explanation)
    return 0


def audience(connection: Client, arguments: argparse.Namespace) -> int:
    """Print the users for whom items are best, as they come."""
    wanted = _where(arguments)
    if bool(arguments.items) == (wanted is not None):
        arguments.refuse("give either ITEMs, or --where")
    pages = connection.find_audience(
        arguments.items,
        filter=wanted,
        min_score=arguments.min_score,
        limit=arguments.limit,
        include_refused=arguments.include_refused,
        page_token=arguments.token,
        user_filter=_where(arguments, "user_where"),
        timeout=arguments.timeout,
    )
    token = ""
    for page in pages:
        for member in page.members:
            say(arguments, member, show_explain.member)
        token = page.page_token
        if page.withheld:
            print("tidings: the audience is withheld: it is smaller than the server may tell of", file=sys.stderr)
    if token:
        print(f"tidings: there may be more: --token {token}", file=sys.stderr)
    return 0


def list_releases(connection: Client, arguments: argparse.Namespace) -> int:
    """Print the releases."""
    say(arguments, connection.list_releases(), show.releases)
    return 0


def promote(connection: Client, arguments: argparse.Namespace) -> int:
    """Promote a release."""
    say(arguments, connection.promote_release(arguments.release, timeout=arguments.timeout), show.promotion)
    return 0


def rollback(connection: Client, arguments: argparse.Namespace) -> int:
    """Go back to the release before."""
    say(arguments, connection.rollback_release(arguments.leave, timeout=arguments.timeout), show.promotion)
    return 0


def profile(connection: Client, arguments: argparse.Namespace) -> int:
    """Print what is known of a user."""
    say(arguments, connection.get_profile(arguments.user), show.profile)
    return 0


def update_profile(connection: Client, arguments: argparse.Namespace) -> int:
    """Set and remove attributes and tags of a user."""
    if both := sorted({name for name, _ in arguments.set} & {*arguments.remove}):
        arguments.refuse(f"{', '.join(both)}: to be set and to be removed; leave out one")
    attributes: dict[str, model.AttributeValue | None] = dict.fromkeys(arguments.remove)
    attributes.update((name, _value(text)) for name, text in arguments.set)
    done = connection.update_profile(
        arguments.user,
        attributes,
        tags=[_tag(arguments, text) for text in arguments.tag],
        remove_tags=arguments.remove_tag,
        source=arguments.source,
        event_time=arguments.time,
        event_id=arguments.event_id,
    )
    say(arguments, done, show.updated)
    return 0


def merge_profiles(connection: Client, arguments: argparse.Namespace) -> int:
    """Make two ids one person."""
    say(arguments, connection.merge_profiles(arguments.visitor, arguments.user), show.merged)
    return 0


def _value(text: str) -> model.AttributeValue:
    """A value of an attribute as JSON when it is that, such as 25, true or ["a", "b"]; else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, list):
        return [str(one) for one in value]
    return value if isinstance(value, str | int | float) else text


def _tag(arguments: argparse.Namespace, text: str) -> model_profile.TagSetting:
    """A tag, with a weight after its last "="."""
    tag, equals, weight = text.rpartition("=")
    if not equals:
        return model_profile.TagSetting(text, expire_time=arguments.until)
    try:
        return model_profile.TagSetting(tag, float(weight), arguments.until)
    except ValueError:
        arguments.refuse(f"--tag {text!r}: {weight!r} is no weight")
        raise


def send(connection: Client, arguments: argparse.Namespace) -> int:
    """Send a push and print what became of it."""
    done = connection.send_push(
        arguments.user,
        arguments.title,
        body=arguments.body,
        item_ids=arguments.item,
        url=arguments.url,
        data=dict(arguments.data),
        ttl=arguments.ttl,
        collapse_key=arguments.collapse_key,
        request_id=arguments.request_id,
    )
    say(arguments, done, show.sent_push)
    return 0


def subscribe(connection: Client, arguments: argparse.Namespace) -> int:
    """Print a user's pushes as they come."""
    logging.basicConfig(format="tidings: %(message)s")
    with connection.subscribe(arguments.user, device_id=arguments.device) as pushes:
        for number, push in enumerate(pushes, start=1):
            say(arguments, push, show.push)
            if number == arguments.count:
                pushes.acknowledge()
                break
    return 0


def record(connection: Client, arguments: argparse.Namespace) -> int:
    """Record one event, or those of a file; 1 when any was rejected."""
    one = (arguments.user, arguments.type, *arguments.items)
    if arguments.file is not None:
        if any(one):
            arguments.refuse("give either USER and TYPE, or --file")
        return _record_file(connection, arguments)
    if arguments.user is None or arguments.type is None:
        arguments.refuse("USER and TYPE are needed, or --file")
    if lacking := _lacking(arguments):
        arguments.refuse(lacking)
    event = model.Event(
        arguments.user,
        arguments.type,
        arguments.items,
        category=arguments.category,
        query=arguments.query,
        value=arguments.value,
        event_time=arguments.time,
        push_id=arguments.push_id,
        order_id=arguments.order_id,
        decision_token=arguments.decision_token,
        event_id=arguments.event_id,
    )
    recorded = connection.record(event)
    (verdict,) = recorded.verdicts
    rejected = verdict.status is model.EventStatus.REJECTED
    if arguments.json or not rejected:
        say(arguments, recorded, lambda _: show.recorded(event, verdict))
    _complain("the event is rejected", verdict.faults)
    return 1 if rejected else 0


def _lacking(arguments: argparse.Namespace) -> str:
    """What one event of the command line lacks, in the command line's own words; "" for nothing it knows of."""
    if arguments.type == model.EventType.SEARCH and not arguments.query:
        if arguments.items:
            text = " ".join(arguments.items).replace("'", "'\\''")
            return f"a search takes no items: use --query '{text}'"
        return "a search needs --query TEXT: what was searched for"
    of_category = arguments.type in (model.EventType.VIEW, model.EventType.SEE_LESS)
    if of_category and not arguments.items and not arguments.category:
        return f"a {arguments.type} needs an ITEM, or --category NAME"
    return ""


def _record_file(connection: Client, arguments: argparse.Namespace) -> int:
    counts = dict.fromkeys(_STATUSES, 0)
    reached = 0
    try:
        for batch in _batches(lines(arguments.file), counts):
            verdicts = connection.record([event for _, event in batch]).verdicts
            for (number, _), verdict in zip(batch, verdicts, strict=True):
                counts[verdict.status] = counts.get(verdict.status, 0) + 1
                if verdict.status is model.EventStatus.REJECTED:
                    _complain(f"line {number}", verdict.faults)
            reached = batch[-1][0]
    except (errors.TidingsError, KeyboardInterrupt):
        print(f"tidings: stopped after line {reached}: what follows may have to be recorded again", file=sys.stderr)
        raise
    say(arguments, counts, show.recorded_file)
    return 1 if counts[model.EventStatus.REJECTED] else 0


def _batches(
    lines: Iterator[tuple[int, str]], counts: dict[model.EventStatus, int]
) -> Iterator[list[tuple[int, model.Event]]]:
    """Group the events of lines, with their line numbers; lines that hold none are complained of and counted."""
    batch: list[tuple[int, model.Event]] = []
    size = 0
    for number, line in lines:
        try:
            event = event_lines.parse(line)
        except errors.InvalidArgument as error:
            counts[model.EventStatus.REJECTED] += 1
            _complain(f"line {number}", event_lines.faults(error))
            continue
        if batch and (len(batch) == _BATCH or size + len(line) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, event))
        size += len(line)
    if batch:
        yield batch


def lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, or of the input for "-", that are not blank, with their numbers from 1."""
    # Bytes that are not UTF-8 spoil their own line only: such text cannot be sent.
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape"}
    try:
        with io.TextIOWrapper(sys.stdin.buffer, **how) if path == "-" else open(path, **how) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise errors.InvalidArgument(f"cannot read {path}: {error.strerror}") from error


def _complain(place: str, found: Any) -> None:
    for fault in found:
        print(f"tidings: {place}: {show.fault(fault.field, fault.description)}", file=sys.stderr)
