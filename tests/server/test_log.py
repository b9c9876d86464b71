"""The log is one line per event, ours and the libraries' alike."""

import json
import subprocess
import sys

PROGRAM = """
import logging, sys, structlog
from tidings_server.log import configure
configure(sys.argv[1], "info")
log = structlog.get_logger()
log.debug("not shown")
log.info("ours", release_id="r-1")
logging.getLogger("aiohttp.server").warning("theirs %d", 7)
logging.getLogger("aiohttp.server").info("not shown")
try:
    raise ValueError("why")
except ValueError:
    log.exception("it failed", request_id="r-2")
"""


def logged(form: str) -> list[str]:
    """What the program writes on standard error."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, form], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_json_lines_are_for_machines() -> None:
    """Every line parses by itself, has its level and time, and a failure carries its traceback."""
    ours, theirs, failure = (json.loads(line) for line in logged("json"))
    assert (ours["event"], ours["level"], ours["release_id"]) == ("ours", "info", "r-1")
    assert (theirs["event"], theirs["level"]) == ("theirs 7", "warning")
    assert failure["request_id"] == "r-2"
    assert failure["exception"][0]["exc_value"] == "why"
    assert all(line["timestamp"].endswith("Z") for line in (ours, theirs, failure))


def test_console_lines_are_for_people() -> None:
    """Plain text, without colours when nobody looks at a terminal."""
    text = "\n".join(logged("console"))
    assert "ours" in text
    assert "theirs 7" in text
    assert "ValueError: why" in text
    assert "not shown" not in text
    assert "\x1b" not in text
