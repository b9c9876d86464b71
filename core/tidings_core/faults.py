"""Faults: what is wrong with what was given, told by field."""

Fault = tuple[str, str]
"""A field, and what is wrong with it."""


def text_fault(text: str, most: int, least: int = 0) -> str:
    """What is wrong with a text that may have `least` to `most` bytes and no control characters; "" for nothing."""
    size = len(text) if text.isascii() else len(text.encode())
    if not least <= size <= most:
        return f"has {size} bytes, " + (f"must have {least} to {most}" if least else f"may have {most} at most")
    # C0, DEL and C1: they break logs, files and terminals, and no shop means them.
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
        return "holds a control character, such as a line break: send the id or text without it"
    return ""
