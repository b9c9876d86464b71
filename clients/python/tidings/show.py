"""What the `tidings` command prints: aligned text for people, JSON for machines."""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum

from tidings import model, model_privacy, model_profile

_TITLE_COLUMNS = 48
_SHOWN = 20
_WEEK = 7  # days
_SUPPRESSED = {
    model.SuppressReason.CAP_DAY: "the user had as many pushes in the last 24 hours as one may have",
    model.SuppressReason.NO_CANDIDATE: "nothing fit to push was found",
    model.SuppressReason.NO_RELEASE: "no release answers",
    model.SuppressReason.EXPIRED: "it came too late to be of use",
    model.SuppressReason.COOLDOWN: "the same trigger fired for this user a short while ago",
    model.SuppressReason.FAILED: "deciding failed; the server's log says why",
    model.SuppressReason.NO_CONSENT: "the user has not consented to marketing",
    model.SuppressReason.MINOR: "the user is a minor, and minors are not targeted",
    model.SuppressReason.CHANNEL_OFF: "the user wants nothing over this channel",
    model.SuppressReason.TOPIC_OFF: "the user wants nothing on this topic",
    model.SuppressReason.QUIET_HOURS: "the user does not want to be disturbed now",
    model.SuppressReason.CONDITION: "the trigger's condition does not hold of the user",
}


def as_json(value: object, *, ascii_only: bool) -> str:
    """Return a result as one line of JSON; its keys are the fields' names, times are ISO 8601 in UTC."""
    return json.dumps(value, ensure_ascii=ascii_only, default=_plain)


def recommendation(answer: model.Recommendation) -> str:
    """Return an answer as a table, then what gave it and what it had to do without."""
    header = ("#", "item", "title", "score", "sources", "reasons")
    rows = [
        (
            str(rank),
            clean(item.item.item_id),
            _shorten(clean(item.item.title), _TITLE_COLUMNS),
            f"{item.score:.4f}",
            clean(", ".join(f"{source.source} {source.score:.4f}" for source in item.sources)),
            _reasons(item),
        )
        for rank, item in enumerate(answer.items, start=1)
    ]
    lines = table(header, rows, right=(0, 3)) if rows else ["no items"]
    lines += ["", _origin(answer)]
    lines += [f"degraded: {clean(d.cause)} in {clean(d.stage)}: {clean(d.detail)}" for d in answer.degraded]
    return "\n".join(lines)


def releases(found: Sequence[model.Release]) -> str:
    """Return the releases as a table, the problems of broken ones below it."""
    if not found:
        return "no releases"
    header = ("release", "state", "built (UTC)", "items", "users", "index", "recall", "sources", "ranker")
    rows = [
        (clean(release.release_id), release.state, "", "", "", "", "", "", "")
        if release.state is model.ReleaseState.BROKEN
        else (
            clean(release.release_id),
            release.state,
            f"{release.create_time:%Y-%m-%d %H:%M}" if release.create_time else "",
            f"{release.item_count:,}",
            f"{release.user_count:,}",
            clean(f"{release.index_key}, {release.metric}, {release.dim} dims"),
            f"{math.floor(release.recall * 1e4) / 1e4:.4f} at {release.recall_k}",
            clean(", ".join(release.sources)),
            "yes" if release.ranked else "no",
        )
        for release in found
    ]
    problems = [f"{clean(r.release_id)} is broken: {clean(r.problem)}" for r in found if r.problem]
    return "\n".join(table(header, rows, right=(3, 4)) + ([""] if problems else []) + problems)


def promotion(done: model.Promotion) -> str:
    """Return what serves now and what served before."""
    before = clean(done.previous_release_id) or "none"
    return f"serving {clean(done.release.release_id)}; before: {before}"


def recorded(event: model.Event, verdict: model.EventVerdict) -> str:
    """Return what became of one event."""
    name = f"{clean(event.type)} of {clean(event.user_id)}, event {clean(event.event_id)}"
    if verdict.status is model.EventStatus.DUPLICATE:
        return f"duplicate: {name}: this id was recorded before, nothing was changed"
    return f"{verdict.status}: {name}"


def fault(field: str, description: str) -> str:
    """Return one thing wrong with an event."""
    return clean(f"{field} {description}")


def recorded_file(counts: Mapping[str, int]) -> str:
    """Return how many events of a file were accepted, duplicates and rejected."""
    said = ", ".join(f"{number:,} {status}" for status, number in counts.items())
    return f"{sum(counts.values()):,} events: {said}"


def sent_push(done: model.SentPush) -> str:
    """Return what became of a push."""
    if done.decision is model.PushDecision.SENT:
        return f"sent: push {clean(done.push_id)} at offset {done.offset}"
    return f"not sent: {_SUPPRESSED.get(done.reason, done.reason)}"


def push(got: model.Push) -> str:
    """Return a push: when it was made and its title, then its text, items with reasons, address and cause."""
    lines = [f"{_time(got.create_time)}  {clean(got.title)}"]
    if got.body:
        lines.append(f"  {clean(got.body)}")
    rows = [
        (
            f"  {rank}",
            clean(item.item.item_id),
            _shorten(clean(item.item.title), _TITLE_COLUMNS),
            _price(item.item),
            _reasons(item),
        )
        for rank, item in enumerate(got.items, start=1)
    ]
    lines += table(rows[0], rows[1:], right=(3,)) if rows else []
    lines += [f"  {clean(key)}: {clean(text)}" for key, text in [("url", got.url), *got.data.items()] if text]
    cause = f"trigger {clean(got.trigger)}, event {clean(got.event_id)}, " if got.trigger else ""
    return "\n".join([*lines, f"  {cause}push {clean(got.push_id)}"])


def profile(known: model_profile.Profile) -> str:
    """Return a profile: what is said of the user, counts of events, interests, what was bought, the newest events."""
    vector = "with" if known.known_to_release else "without"
    first, last = _time(known.first_event_time), _time(known.last_event_time)
    lines = [
        f"user {clean(known.user_id)}, {vector} a vector in the release, version {known.version}",
        f"events from {first} to {last}, spent {known.spent:,.2f}",
        "",
    ]
    counts = [
        (c.type, f"{c.total:,}", f"{c.last_day:,}", f"{c.last_week:,}", f"{c.last_month:,}") for c in known.counts
    ]
    lines += _stated(known)
    lines += table(("events", "total", "1 day", "7 days", "30 days"), counts, right=(1, 2, 3, 4))
    if known.prices is not None:
        lines += [
            "",
            f"prices: {known.prices.low:,.2f} to {known.prices.high:,.2f}, half below {known.prices.middle:,.2f}",
        ]
    for name, values in (("categories", known.categories), ("brands", known.brands)):
        if values:
            lines += ["", f"{name}: " + ", ".join(f"{clean(each.value)} {each.share:.0%}" for each in values)]
    less = [clean(each) for each in (*known.blocked_item_ids, *known.blocked_categories)]
    lines += ["", f"less of: {', '.join(less)}"] if less else []
    lines += _depth(known)
    if known.bought_items:
        shown = known.bought_items[:_SHOWN]
        bought = [(clean(i.item_id), _time(i.last_time), str(i.purchases), str(i.returns)) for i in shown]
        header = (f"bought ({known.bought_item_count:,} items)", "last", "times", "returned")
        lines += ["", *table(header, bought, right=(2, 3))]
    recent = [(_time(event.event_time), event.type, _object(event)) for event in known.recent_events[:_SHOWN]]
    return "\n".join([*lines, "", *table(("newest events", "type", "of"), recent, right=())])


def merged(done: model_profile.Merged) -> str:
    """Return what became of a merge."""
    return f"{'one person already' if done.already else 'merged'}: all is known under {clean(done.user_id)}"


def updated(done: model_profile.Updated) -> str:
    """Return what became of an update."""
    return "nothing was changed: an update of this id was recorded before" if done.duplicate else "updated"


def erased(receipt: model_privacy.ErasureReceipt) -> str:
    """Return the receipt of an erasure."""
    lines = [f"erased at {_time(receipt.erase_time)}"]
    lines += [f"  {count:,} {clean(name)}" for name, count in receipt.removed.items()]
    if not receipt.scrubbed:
        lines.append("somebody reads the server's database: its files are cleared when that ends")
    if receipt.due_release_ids:
        lines.append(f"hold a vector of the person, so build anew: {clean(', '.join(receipt.due_release_ids))}")
    return "\n".join(lines)


def _stated(known: model_profile.Profile) -> list[str]:
    """What is said of a user."""
    lines: list[str] = []
    if known.contacts:
        lines += ["reached by: " + ", ".join(clean(one.masked) for one in known.contacts), ""]
    if known.attributes:
        told = [(clean(one.name), _value(one.value), clean(one.source), _time(one.since)) for one in known.attributes]
        lines += [*table(("attribute", "value", "source", "since"), told, right=()), ""]
    if known.tags:
        tags = [
            (clean(one.tag), f"{one.weight:g}", clean(one.source), _time(one.expire_time) if one.expire_time else "")
            for one in known.tags
        ]
        lines += [*table(("tag", "weight", "source", "until"), tags, right=(1,)), ""]
    if said := _preferences(known.preferences):
        lines += [*said, ""]
    return lines


def _preferences(said: model_privacy.Preferences) -> list[str]:
    """What a person said about consent and pushes, a line for each thing."""
    lines = [
        f"{what}: " + ", ".join(f"{clean(name)} {'yes' if chosen else 'no'}" for name, chosen in choices.items())
        for what, choices in (("consent", said.consent), ("channels", said.channels), ("topics", said.topics))
        if choices
    ]
    if said.quiet_hours is not None and said.quiet_hours.spans:
        days: dict[str, list[str]] = {}
        for span in said.quiet_hours.spans:
            days.setdefault(f"{span.start}-{span.end}", []).append(span.weekday)
        told = (f"{'daily' if len(names) == _WEEK else ', '.join(names)} {times}" for times, names in days.items())
        lines.append(f"quiet: {'; '.join(told)}, {clean(said.quiet_hours.time_zone)}")
    if said.max_per_day is not None:
        lines.append(f"pushes in 24 hours: {said.max_per_day} at most")
    return lines


def _depth(known: model_profile.Profile) -> list[str]:
    """Return what was rated and searched for, and the last visit."""
    lines: list[str] = []
    if known.ratings:
        rated = ", ".join(f"{clean(one.item_id)} {one.stars:g}" for one in known.ratings[:_SHOWN])
        lines += ["", f"rated: {rated}"]
    if known.searches:
        lines += ["", f"searched: {', '.join(clean(one.query) for one in known.searches[:_SHOWN])}"]
    if known.visits:
        last = known.visits[0]
        times = f"{_time(last.start_time)} to {_time(last.end_time)}, {last.events:,} events"
        lines += ["", f"visits: {len(known.visits)}, the last one {times}"]
    return lines


def _value(value: model.AttributeValue) -> str:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    return clean(", ".join(value) if isinstance(value, Sequence) and not isinstance(value, str) else f"{value}")


def age(seconds: float) -> str:
    """Return an age in the largest unit that leaves at least two of it: "95 s", "12 min", "5 h", "3 days"."""
    # Of two clocks one may be ahead.
    seconds = max(seconds, 0.0)
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _reasons(item: model.RecommendedItem) -> str:
    said = (" ".join(part for part in (r.code, r.item_id, r.text) if part) for r in item.reasons)
    return clean(", ".join(said))


def _price(item: model.Item) -> str:
    return "" if item.price is None else clean(f"{item.price:,.2f} {item.currency}".rstrip())


def _object(event: model_profile.RecentEvent) -> str:
    value = "" if event.value is None else f"{event.value:g}"
    parts = [", ".join(event.item_ids), event.category, f'"{event.query}"' if event.query else "", value]
    return clean("  ".join(part for part in parts if part))


def _time(time: datetime | None) -> str:
    return "(no time)" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _origin(answer: model.Recommendation) -> str:
    config = f"serving config {clean(answer.serving_config)}"
    if not answer.release_id:
        return f"no release, {config}"
    built = f"release {clean(answer.release_id)}, {age(answer.release_age_seconds)} old"
    return f"{built}, index {age(answer.index_age_seconds)} old, {config}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Return lines with aligned columns, those numbered in `right` to the right."""
    cells = [header, *rows]
    widths = [max(_columns(row[at]) for row in cells) for at in range(len(header))]
    return ["  ".join(_pad(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in cells]


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _columns(text))
    return space + text if right else text + space


def _columns(text: str) -> int:
    """Return how many columns a terminal gives a text: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(_char_columns(char) for char in text)


def _char_columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _shorten(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    kept = 0
    for at, char in enumerate(text):
        kept += _char_columns(char)
        if kept >= columns:
            return text[:at].rstrip() + "…"
    return text


def clean(text: str) -> str:
    """Return a text on one line; a shop's text may hold line breaks, and escapes that steer a terminal."""
    if text.isprintable():
        return text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not asdict: it copies in depth, which not every mapping can be.
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def upserted_file(counts: Mapping[str, int]) -> str:
    """Return what became of the items of a file."""
    return ", ".join(f"{count:,} {result}" for result, count in sorted(counts.items())) or "no items"


def deleted(item_ids: Sequence[str], done: model.Deleted) -> str:
    """Return what became of each item to delete."""
    return "\n".join(
        f"{clean(item_id)}: {result.replace('_', ' ')}" for item_id, result in zip(item_ids, done.results, strict=True)
    )


def catalog_line(item: model.CatalogItem) -> str:
    """Return an item in one line."""
    price = "" if item.price is None else f"{item.price:,.2f} {clean(item.currency)}".strip()
    return "  ".join(part for part in (clean(item.item_id), _shorten(clean(item.title), _TITLE_COLUMNS), price) if part)


def catalog_item(item: model.CatalogItem) -> str:
    """Return what the catalogue says of an item, a line for each thing."""
    told: list[tuple[str, object]] = [
        (field.name, getattr(item, field.name))
        for field in dataclasses.fields(item)
        if field.name not in ("shown", "attributes")
    ]
    told = [(name, f"{value:.2f}" if name == "price" and value is not None else value) for name, value in told]
    told += [*item.shown.items(), *item.attributes.items()]
    return "\n".join(f"{name}: {_told(value)}" for name, value in told if value not in (None, "", (), ()))


def _told(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, tuple | list):
        return clean(" > ".join(map(str, value)))
    return clean(str(value))
