"""The `tidings` command against a real server: what it prints, how it fails, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

import tidings
from tests.client.service import SmallServer, bad_request, refuse, violation
from tidings import __main__ as command
from tidings import show

COMMAND = [sys.executable, "-m", "tidings"]
ENVIRONMENT = {"PYTHONPATH": str(Path(tidings.__file__).parents[1]), "PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def _point_at_server(server: SmallServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_SERVER", server.address)


def run(server: SmallServer, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a program of its own."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address} | environment,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_recommend_prints_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Rank, item, title, score, sources and reasons stand in columns, wide characters counted as two."""
    assert command.main(["recommend", "stranger", "-k", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "#  item    title                 score  sources     reasons",
        "1  85123A  White hanging heart  1.0000  ann 0.5000  similar_to_bought 22423, trending",
        "2  71053   白色金属灯笼         0.9990  ann 0.5000  similar_to_bought 22423, trending",
        "3  plain                        0.9980  ann 0.5000  similar_to_bought 22423, trending",
        "",
        "release second, 2 h old, index 30 s old, serving config for-you",
        "degraded: unknown_user in user: The release does not know the user.",
    ]


def test_recommend_passes_every_option_on(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """All options reach the server; those that take items take many, and may be repeated."""
    arguments = [
        "--serving-config",
        "cart",
        "--context",
        "a",
        "b",
        "--exclude",
        "c",
        "--exclude",
        "d",
        "--query",
        "red lantern",
        "--category",
        "home",
        "--timeout",
        "9",
    ]
    assert command.main(["recommend", "u1", *arguments]) == 0
    request = server.calls[0].request
    assert (request.query, request.category) == ("red lantern", "home")
    assert (request.user_id, request.serving_config, request.HasField("k")) == ("u1", "cart", False)
    assert (list(request.context_item_ids), list(request.exclude_item_ids)) == (["a", "b"], ["c", "d"])
    assert 5 < server.calls[0].seconds_left < 9.1
    assert "serving config cart" in capsys.readouterr().out


def test_json_is_the_whole_answer_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints every field under its own name, unset ones as null."""
    assert command.main(["recommend", "u1", "-k", "2", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["items"][1]["item"]["title"] == "白色金属灯笼"
    assert [item["item"]["price"] for item in answer["items"]] == [2.55, None]
    assert answer["items"][0]["reasons"][0] == {"code": "similar_to_bought", "item_id": "22423", "text": ""}
    assert (answer["release_id"], answer["degraded"]) == ("second", [])


def test_releases_are_listed_with_their_problems(capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the releases, the broken ones explained below it, each on one line."""
    assert command.main(["releases", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "release  state      built (UTC)         items  users  index                                  recall        "
        "sources        ranker",
        "torn     broken",
        "second   serving    2011-12-01 08:30  123,456      7  IVF512,SQfp16, inner_product, 64 dims  0.9625 at 10  "
        "ann, trending  yes",
        "first    available  2011-12-01 08:30  123,456      7  IVF512,SQfp16, inner_product, 64 dims  0.9625 at 10  "
        "ann, trending  yes",
        "",
        "torn is broken: index.faiss: checksum differs",
    ]
    assert command.main(["releases", "--json", "list"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(release["release_id"], release["create_time"]) for release in listed] == [
        ("torn", None),
        ("second", "2011-12-01T08:30:00+00:00"),
        ("first", "2011-12-01T08:30:00+00:00"),
    ]


def test_releases_are_promoted_and_rolled_back(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Both say what serves now and what served before; `--from` is passed on."""
    assert command.main(["releases", "promote", "first"]) == 0
    assert capsys.readouterr().out == "serving first; before: second\n"
    assert command.main(["releases", "rollback", "--from", "other"]) == 1
    assert capsys.readouterr().err == "tidings: other is not serving\n"
    assert command.main(["releases", "rollback", "--from", "first"]) == 0
    assert "; before: first" in capsys.readouterr().out


def test_options_may_stand_before_or_after_the_command(
    server: SmallServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--server`, `--timeout` and `--json` work in both places, and `--server` wins over the environment."""
    monkeypatch.setenv("TIDINGS_SERVER", "127.0.0.1:1")
    before = ["--server", server.address, "--timeout", "9", "--json", "recommend", "u1"]
    after = ["recommend", "u1", "--server", server.address, "--timeout", "9", "--json"]
    for arguments in (before, after):
        assert command.main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["release_id"] == "second"
    assert all(5 < call.seconds_left < 9.1 for call in server.calls)


def test_an_error_is_one_line_and_each_field_another(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused request exits with 1, says so on stderr with every field, and prints nothing else."""
    server.steps.append(bad_request(violation("k", "must be 1 to 500,\nnot 0"), violation("user_id", "is empty")))
    assert command.main(["recommend", "", "-k", "0"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "tidings: 2 fields are refused",
        "  k: must be 1 to 500, not 0",
        "  user_id: is empty",
    ]


def test_a_field_that_the_message_names_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """What the client itself refuses is one line."""
    assert command.main(["recommend", "u1", "--timeout", "0"]) == 1
    assert capsys.readouterr().err == "tidings: timeout must be above 0 and at most 86400 s, not 0.0\n"


def test_a_long_message_of_the_server_stays_on_one_line(
    server: SmallServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line breaks in an error are not passed on."""
    server.steps.append(refuse(grpc.StatusCode.INTERNAL, "it broke\n  here\n"))
    assert command.main(["recommend", "u1"]) == 1
    assert capsys.readouterr().err == "tidings: it broke here\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["recommend"], ["recommend", "u1", "-k", "many"], ["releases"], ["releases", "promote"], ["sell", "u1"]],
)
def test_wrong_usage_exits_with_2_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the command line does not allow is explained with its usage, and no call is made."""
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tidings")


def test_without_a_server_it_says_how_to_start_one(server: SmallServer) -> None:
    """A server that is not there costs one readable line and exit status 1."""
    done = run(server, "recommend", "u1", "--server", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tidings: no Tidings server answers at 127.0.0.1:1 ")
    assert "`tidings-server`" in line


def test_a_reader_that_leaves_early_is_no_error(server: SmallServer) -> None:
    """`tidings … | head -1` ends quietly, however long the answer."""
    read, write = os.pipe()
    with subprocess.Popen(
        [*COMMAND, "recommend", "u1", "-k", "500"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        os.close(read)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, b"")


def test_a_full_disk_is_reported(server: SmallServer) -> None:
    """An answer that cannot be written is an error, not a success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "recommend", "u1"],
            env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (
        1,
        b"tidings: cannot write the answer: [Errno 28] No space left on device\n",
    )


def test_ctrl_c_is_quiet(server: SmallServer) -> None:
    """Interrupted while it waits, the command ends with 130 and no traceback."""
    server.steps.append(server.hang)
    with subprocess.Popen(
        [*COMMAND, "recommend", "u1", "--timeout", "30"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert server.reached.wait(30)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, b"", b"")


def test_a_terminal_without_unicode_gets_all_it_can_show(server: SmallServer) -> None:
    """On an ASCII terminal the table loses letters, never the answer; JSON loses nothing."""
    table = run(server, "recommend", "u1", "-k", "2", PYTHONIOENCODING="ascii")
    assert (table.returncode, table.stderr) == (0, b"")
    assert b"??????" in table.stdout
    answer = run(server, "recommend", "u1", "-k", "2", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(answer.stdout.decode("ascii"))["items"][1]["item"]["title"] == "白色金属灯笼"


def test_a_user_id_that_is_no_text_is_refused(server: SmallServer) -> None:
    """Bytes that are not UTF-8 are named as the user id, without a traceback."""
    done = subprocess.run(
        [*COMMAND, "recommend", b"\xff"],
        env=ENVIRONMENT | {"TIDINGS_SERVER": server.address},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"tidings: user_id ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.2, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_an_age_is_told_in_a_unit_one_can_grasp(seconds: float, text: str) -> None:
    """An age is a whole number of the largest unit that fits twice; a clock that is ahead makes no negative age."""
    assert show.age(seconds) == text


def test_a_text_of_the_shop_cannot_break_the_table_or_steer_the_terminal() -> None:
    """Escapes and line breaks are dropped, and a long title is shortened by columns, not letters."""
    item = tidings.Item(
        "i\x1b[31m1", "灯" * 40 + "\n", "", (), "", None, "", "", "", publish_time=None, expire_time=None, attributes={}
    )
    items = (tidings.RecommendedItem(item, 1.0, (), ()),)
    answer = tidings.Recommendation(items, (), "", 0.0, 0.0, "for-you", "")
    header, row, blank, origin = show.recommendation(answer).split("\n")
    assert row == f"1  i [31m1  {'灯' * 23}…  1.0000"
    assert (blank, origin) == ("", "no release, serving config for-you")
    assert header.startswith("#  item     title ")


def test_an_empty_answer_and_no_releases_are_said_in_words() -> None:
    """Nothing to show is a sentence, not an empty table."""
    empty = tidings.Recommendation((), (), "r1", 0.0, 0.0, "for-you", "")
    assert show.recommendation(empty).startswith("no items\n")
    assert show.releases([]) == "no releases"
