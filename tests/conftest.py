"""What every test stands on."""

import signal


def pytest_configure() -> None:
    """Take Ctrl-C as at a terminal: a shell's background job ignores it, and what it starts would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
