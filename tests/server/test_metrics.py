"""Metrics: what is scraped is what the list says, and the serving release is always the present one."""

import re
from pathlib import Path

from prometheus_client import generate_latest

from tests.server.conftest import Shop
from tidings_core.release import Release
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.metrics import METRICS, Metrics


def used(release: Release | None = None) -> Metrics:
    """Metrics of which each was counted at least once."""
    metrics = Metrics()
    metrics.watch_release(lambda: release)
    metrics.calls("Recommend")("OK", 0.001)
    metrics.stage("decode")(0.001)
    metrics.batches("compute")(3)
    metrics.watch_waiting("compute", lambda: 4)
    metrics.degraded("deadline", "ranker")
    metrics.promotion("promote", "done")
    metrics.decision("trigger:bought", "sent")
    metrics.decided(0.002)
    metrics.pushed(0.003)
    metrics.recorded("recorded")
    metrics.recall_check("checked")
    metrics.recall("0.9-1", 0.97)
    metrics.recall_low("0.9-1", False)
    metrics.watch_drift(("user.log_items",), lambda _: 0.1)
    return metrics


def test_what_is_scraped_is_what_the_list_says(shop: Shop) -> None:
    """Every metric in the list is scraped with its kind and help, and none besides but the process's own."""
    text = generate_latest(used(ReleaseDirectory(shop.path).open(shop.a)).registry).decode()
    kinds = dict(re.findall(r"^# TYPE (tidings_\w+) (\w+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (tidings_\w+) (.+)$", text, re.MULTILINE))
    assert kinds == {spec.name: spec.kind for spec in METRICS}
    assert helps == {spec.name: spec.help for spec in METRICS}


def test_labels_are_those_of_the_list(shop: Shop) -> None:
    """Each sample has its metric's labels and no more."""
    registry = used(ReleaseDirectory(shop.path).open(shop.a)).registry
    labels = {spec.name.removesuffix("_total"): set(spec.labels) for spec in METRICS}
    for family in registry.collect():
        for sample in family.samples:
            if family.name in labels:
                assert set(sample.labels) - {"le"} == labels[family.name], sample


def test_no_release_has_no_samples() -> None:
    """An absent release is absent, not zero."""
    registry = used(None).registry
    assert [family.samples for family in registry.collect() if family.name == "tidings_release_recall"] == [[]]


def test_the_serving_release_is_the_present_one(shop: Shop) -> None:
    """After a swap no trace of the old one is scraped."""
    directory = ReleaseDirectory(shop.path)
    present = [directory.open(shop.a)]
    metrics = Metrics()
    metrics.watch_release(lambda: present[0])
    present[0] = directory.open(shop.b)
    text = generate_latest(metrics.registry).decode()
    assert f'release_id="{shop.b}"' in text
    assert shop.a not in text
    assert "tidings_release_recall 1.0" in text


def test_an_unmeasured_release_metric_reads_its_manifest(tmp_path: Path, shop: Shop) -> None:
    """Age is the time since the manifest's own."""
    import time

    release = ReleaseDirectory(shop.path).open(shop.a)
    value = used(release).registry.get_sample_value("tidings_release_age_seconds")
    assert value is not None
    assert abs(value - (time.time() - release.manifest.created_at)) < 60
