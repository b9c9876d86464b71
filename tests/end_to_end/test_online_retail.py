"""The real shop of the demo: offline scores are online scores, and the demo says what it promises."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tidings
from tests.support.server import start_server
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.recommend import recommend
from tidings_core.release import list_releases, open_release

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "online_retail" / "demo.py"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo run once: its working directory and what it printed."""
    work = tmp_path_factory.mktemp("demo") / "work"
    return work, run_demo(work)


def run_demo(work: Path) -> str:
    """Run the demo to its end, on ports of its own."""
    command = [sys.executable, str(DEMO), "--work", str(work), "--listen", "127.0.0.1:0", "--no-stay"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env={"COLUMNS": "160"})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.long
def test_the_demo_beats_the_bestsellers_on_what_was_really_bought_later(demo: tuple[Path, str]) -> None:
    """It shows customers, reasons and hits, and its recall is well above that of the bestsellers."""
    _, printed = demo
    assert printed.count("were bought in the four weeks after") == 3
    assert "goes with" in printed
    table = printed.partition("came back and bought something new")[2]
    scores = {name: float(recall) for name, recall in re.findall(r"^\s*(Tidings|bestsellers)\s+(0\.\d+)", table, re.M)}
    assert scores["Tidings"] > 1.2 * scores["bestsellers"] > 0


@pytest.mark.long
def test_orders_replayed_live_lead_to_pushes_of_what_is_bought_later(demo: tuple[Path, str]) -> None:
    """Every order that came in led to its push, and more pushed items are bought later than of the bestsellers."""
    live = demo[1].partition("5. live")[2].partition("6. try it yourself")[0]
    pushes, orders = re.findall(r"(\d+) pushes .*?(\d+) orders", live)[-1]
    assert int(pushes) == int(orders) >= 100
    later = {name: int(hits) for name, hits in re.findall(r"^\s*(Tidings|bestsellers)\s+(\d+) of \d+", live, re.M)}
    assert later["Tidings"] > later["bestsellers"] > 0


@pytest.mark.long
def test_a_second_run_of_the_demo_reuses_the_release(demo: tuple[Path, str]) -> None:
    """Nothing is trained again, and the same release answers the same."""
    work, first = demo
    second = run_demo(work)
    assert "reusing" in second
    answers = [printed.partition("4. a running server")[2].partition("5. live")[0] for printed in (first, second)]
    assert answers[0] == answers[1] != ""
    assert len(list_releases(work / "releases")) == 1


@pytest.mark.long
def test_a_thousand_real_users_get_the_same_score_offline_and_online(demo: tuple[Path, str], tmp_path: Path) -> None:
    """Same now, same items in the same order, every score within 1e-5."""
    releases = demo[0] / "releases"
    name = next(path.name for path in releases.iterdir() if not path.name.startswith("."))
    snapshot = open_release(releases / name).snapshot
    users = [snapshot.users[row] for row in range(1000)]
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(name)
        worst = 0.0
        for start in range(0, 1000, 100):
            part = users[start : start + 100]
            online = client.batch_recommend([tidings.RecommendQuery(user) for user in part], timeout=60)
            now = time.time()
            offline = recommend([Query(user, SERVING_CONFIGS["for-you"]) for user in part], snapshot, now)
            for there, here in zip(online, offline, strict=True):
                assert there.degraded == ()
                assert [item.item.item_id for item in there.items] == [snapshot.items[item.row] for item in here.items]
                differences = [abs(a.score - b.score) for a, b in zip(there.items, here.items, strict=True)]
                worst = max(worst, *differences)
    print(f"1,000 users, largest difference of a score {worst:.1e}")
    assert worst <= 1e-5
