"""Faults: what is wrong with what was given, told by field."""

from collections.abc import Sequence

Fault = tuple[str, str]
"""A field, and what is wrong with it."""

MAX_TOLD = 8
"""So many faults of one request are told; the details of an error must fit into a header."""


def text_fault(text: str, most: int, least: int = 0) -> str:
    """What is wrong with a text that may have `least` to `most` bytes and no control characters; "" for nothing."""
    size = len(text) if text.isascii() else len(text.encode())
    if not least <= size <= most:
        return f"has {size} bytes, " + (f"must have {least} to {most}" if least else f"may have {most} at most")
    if text.isprintable():
        return ""
    # C0, DEL and C1: they break logs, files and terminals, and no shop means them.
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
        return "holds a control character, such as a line break: send the id or text without it"
    return ""


def told(faults: Sequence[Fault]) -> Sequence[Fault]:
    """The faults to tell of: all of them, or the first MAX_TOLD with the number of the rest."""
    if len(faults) <= MAX_TOLD:
        return faults
    field, problem = faults[MAX_TOLD - 1]
    return [*faults[: MAX_TOLD - 1], (field, f"{problem} (and {len(faults) - MAX_TOLD} more faults)")]
