"""Settings come from file, environment and command line; what is wrong is said all at once."""

from pathlib import Path
from typing import Any

import pytest

from tidings_core.errors import InvalidInput
from tidings_core.events import NEVER
from tidings_core.filters import Filter, Range
from tidings_core.model import SERVING_CONFIGS, Diversity, ServingConfig, SourceUse
from tidings_core.triggers import Trigger
from tidings_server.default_config import TABLES, default_config
from tidings_server.push_settings import TemplateTable, TriggerTable
from tidings_server.settings import Address, Settings, load


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("TIDINGS_"):
            monkeypatch.delenv(name)


def from_toml(tmp_path: Path, text: str, **given: Any) -> Settings:
    """Settings from a file with this text."""
    file = tmp_path / "tidings.toml"
    file.write_text(text)
    return load(file, given)


def faults(tmp_path: Path, text: str, **given: Any) -> dict[str, str]:
    """What is wrong with a file."""
    with pytest.raises(InvalidInput) as refused:
        from_toml(tmp_path, text, **given)
    return dict(refused.value.violations)


def test_the_last_word_is_the_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then environment, then command line; each leaves alone what it does not name."""
    monkeypatch.setenv("TIDINGS_MAX_WAITING", "2")
    monkeypatch.setenv("TIDINGS_MAX_BATCH", "2")
    settings = from_toml(tmp_path, "max_waiting = 1\nmax_batch = 1\ncompute_threads = 7\n", max_batch="3")
    assert (settings.max_batch, settings.max_waiting, settings.compute_threads) == (3, 2, 7)
    assert settings.drain_seconds == Settings.model_fields["drain_seconds"].default


def test_the_printed_default_config_loads_back_to_the_defaults(tmp_path: Path) -> None:
    """What --print-default-config prints is valid and changes nothing."""
    assert from_toml(tmp_path, default_config()).model_dump() == load(None, {}).model_dump()


def test_the_printed_serving_configs_are_the_built_in_ones(tmp_path: Path) -> None:
    """Taking the comment signs off what is printed gives the built-in serving configs, and a trigger that works."""
    settings = from_toml(tmp_path, default_config().replace("#:", ""))
    assert set(settings.serving) == set(SERVING_CONFIGS)
    assert settings.serving_configs == SERVING_CONFIGS
    assert settings.triggers == {"bought": Trigger("bought", "purchase", "for-you", "goes-with")}
    assert set(settings.templates) == {"goes-with"}


def test_every_setting_is_described_in_the_printed_config() -> None:
    """Nobody has to read the code to know what a setting does."""
    text = default_config()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert field.description in text
        assert name in TABLES or f"\n{name} = " in text
    for table in (TriggerTable, TemplateTable):
        for name, field in table.model_fields.items():
            assert f"#   {name}: {field.description}" in text


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    """Each with the setting, the value and the limit."""
    found = faults(
        tmp_path,
        'max_batch = 0\nlisten = "nonsense"\ndrain_seconds = nan\nfront = "carrier pigeon"\nmax_wating = 3\n'
        "[serving.for-you]\nsources = [{name = 'ann', k = 0}, {name = 'magic', k = 1001, weight = -1}]\n",
        http="127.0.0.1:99999",
    )
    assert found["max_batch"] == "is 0: input should be greater than or equal to 1"
    assert "HOST:PORT" in found["listen"]
    assert "'nonsense'" in found["listen"]
    assert "port of 0 to 65535" in found["http"]
    assert "'grpcio'" in found["front"]
    assert "finite" in found["drain_seconds"]
    assert "known are releases, state, listen" in found["max_wating"]
    assert found["serving.for-you.sources[0].k"] == "is 0: input should be greater than or equal to 1"
    assert "no such source; known are search" in found["serving.for-you.sources[1].name"]
    assert "less than or equal to 1000" in found["serving.for-you.sources[1].k"]
    assert "greater than or equal to 0" in found["serving.for-you.sources[1].weight"]
    assert len(found) == 10


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        (
            "[serving.x]\nsources = [{name = 'magic', k = 5}]",
            "serving.x.sources[0].name",
            "known are search, recent, complement",
        ),
        ("[serving.x]\nsources = [{name = 'ann', k = 5, wait = 1}]", "serving.x.sources[0].wait", "known are name, k"),
        ("[serving.x]\nsources = [{name = 'ann'}]", "serving.x.sources[0].k", "is missing"),
        ("[serving.x]\nsources = []", "serving.x.sources", "at least one source"),
        ("[serving.x]\nrerank = false", "serving.x.sources", "is missing; only the built-in for-you"),
        ("[serving.x]\nsorces = []", "serving.x.sorces", "known are sources, rerank, exclude_bought, diversity"),
        (
            "[serving.for-you]\nsources = [{name = 'ann', k = 5}, {name = 'ann', k = 6}]",
            "serving.for-you.sources",
            "each once",
        ),
        (
            "[serving.for-you]\ndiversity = {attribute = 'brand', max = 5}",
            "serving.for-you.diversity.max",
            "known are attribute, max_per_value",
        ),
        ("[serving.for-you]\ndiversity = 3", "serving.for-you.diversity", "valid dictionary"),
        ("[serving.for-you]\ndiversity = true", "serving.for-you.diversity", "should be False"),
        ("[serving.similar]\nfilter = true", "serving.similar.filter", "should be False"),
        ("[serving.similar]\nfilter = {must = []}", "serving.similar.filter", "is empty; name a condition"),
        ("[serving.similar]\nfilter = {may = []}", "serving.similar.filter.may", "known are must, should, must_not"),
        (
            "[serving.similar]\nfilter = {must = [{attribute = 'price', number = {below = 3}}]}",
            "serving.similar.filter.must[0].number.below",
            "known are gte, gt, lte, lt",
        ),
        (
            "[serving.similar]\nfilter = {must = [{attribute = 'price', less = 3}]}",
            "serving.similar.filter.must[0].less",
            "known are attribute, any_of",
        ),
        (
            "[serving.similar]\nfilter = {must_not = [{attribute = 'price', number = {gt = 3, lt = 3}}]}",
            "serving.similar.filter.must_not[0].number",
            "lets nothing through",
        ),
        ("[serving.'No Name']\nrerank = false", "serving.No Name", "match"),
        ("listen = 5", "listen", "5"),
    ],
)
def test_a_fault_is_named_where_it_is(tmp_path: Path, text: str, field: str, said: str) -> None:
    """Unknown names are refused with the known ones."""
    found = faults(tmp_path, text)
    assert field in found, found
    assert said in found[field]


def test_a_serving_table_changes_what_it_names_and_no_more(tmp_path: Path) -> None:
    """A built-in config keeps the rest of itself; a new one has defaults for the rest."""
    settings = from_toml(
        tmp_path,
        "[serving.for-you]\nrerank = false\n"
        "[serving.similar]\ndiversity = {attribute = 'brand', max_per_value = 2}\n"
        "[serving.home]\nsources = [{name = 'trending', k = 50, weight = 0.5}]\n",
    )
    configs = settings.serving_configs
    built_in = SERVING_CONFIGS["for-you"]
    assert configs["for-you"] == ServingConfig("for-you", built_in.sources, False, True, built_in.diversity)
    assert configs["similar"].diversity == Diversity("brand", 2)
    assert configs["home"] == ServingConfig("home", (SourceUse("trending", 50, 0.5),))
    assert configs["trending"] == SERVING_CONFIGS["trending"]


def test_a_serving_table_can_leave_out_what_was_seen(tmp_path: Path) -> None:
    """exclude_seen is off unless a table says otherwise."""
    configs = from_toml(tmp_path, "[serving.for-you]\nexclude_seen = true\n").serving_configs
    assert configs["for-you"].exclude_seen
    assert not configs["similar"].exclude_seen


def test_a_serving_config_can_have_a_filter_and_lose_it(tmp_path: Path) -> None:
    """A table says what its items must be; false takes it back."""
    cheap = "filter = { must = [ { attribute = 'price', number = { lt = 20 } } ] }"
    configs = from_toml(tmp_path, f"[serving.similar]\n{cheap}\n[serving.trending]\nfilter = false\n").serving_configs
    assert configs["similar"].filter == Filter((Range("price", lt=20.0),))
    assert configs["trending"].filter is None


def test_diversity_can_be_switched_off(tmp_path: Path) -> None:
    """TOML has no null; false says it."""
    settings = from_toml(tmp_path, "[serving.for-you]\ndiversity = false\n")
    assert settings.serving_configs["for-you"].diversity is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a directory, not TOML, not UTF-8."""
    (tmp_path / "not.toml").write_text("a = = 1")
    (tmp_path / "latin.toml").write_bytes(b'releases = "\xe9"')
    for file, said in (
        ("none.toml", "No such file"),
        (".", "directory"),
        ("not.toml", "is not TOML"),
        ("latin.toml", "utf-8"),
    ):
        with pytest.raises(InvalidInput, match=said) as refused:
            load(tmp_path / file, {})
        assert str(tmp_path) in str(refused.value)


def test_a_damaged_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables in the environment are JSON; what is not, is refused by name."""
    monkeypatch.setenv("TIDINGS_SERVING", "{broken")
    with pytest.raises(InvalidInput, match="serving"):
        load(None, {})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:50051", Address("::1", 50051)),
        ("shop.example:80", Address("shop.example", 80)),
    ],
)
def test_addresses_are_read_and_written(text: str, address: Address) -> None:
    """An address is written as it was read."""
    settings = load(None, {"listen": text})
    assert settings.listen == address
    assert str(settings.listen) == text
    assert str(address.with_port(7)).endswith(":7")


TRIGGERS = """
[serving.home]
sources = [{name = 'trending', k = 50}]
[trigger.bought]
event = "purchase"
serving_config = "home"
template = "words"
k = 5
collapse_key = "now"
[trigger.browsed]
event = "view"
of = "category"
count = 3
within_seconds = 600
same = true
cooldown_seconds = 60
max_age_seconds = 10
ttl_seconds = 7200
serving_config = "for-you"
template = "words"
[template.words]
title = "{{ item.title }}"
body = "{{ event }}: {{ items | map(attribute='title') | join(', ') }}"
"""


def test_triggers_and_templates_are_what_their_tables_say(tmp_path: Path) -> None:
    """What a table leaves out is the trigger's default; a serving config of the same file will do."""
    settings = from_toml(tmp_path, TRIGGERS)
    assert settings.triggers == {
        "bought": Trigger("bought", "purchase", "home", "words", k=5, collapse_key="now"),
        "browsed": Trigger(
            "browsed", "view", "for-you", "words", "category", 3, 600.0, True, 60.0, 10.0, ttl_seconds=7200.0
        ),
    }
    assert settings.templates["words"].title == "{{ item.title }}"
    assert settings.templates["words"].url == ""


def test_all_faults_of_triggers_and_templates_are_named_at_once(tmp_path: Path) -> None:
    """Of tables that contradict each other too, and beside those of other settings."""
    found = faults(
        tmp_path,
        "push_history = 0\n"
        "[trigger.a]\nevent = 'click'\ncount = 0\nwithin_seconds = 0\nk = 21\nserving_config = 'for-you'\n"
        "template = 'nowhere'\n",
    )
    assert set(found) == {"push_history", *(f"trigger.a.{name}" for name in ("event", "count", "within_seconds", "k"))}
    assert "starts no trigger" in found["trigger.a.event"]
    found = faults(
        tmp_path,
        "push_history = 0\n"
        "[trigger.a]\nevent = 'purchase'\nserving_config = 'nothing'\ntemplate = 'nowhere'\n"
        "[trigger.b]\nevent = 'rating'\nof = 'category'\nserving_config = 'for-you'\ntemplate = 'about'\n"
        "[template.about]\ntitle = 'For {{ query[0] }}'\n",
    )
    assert set(found) == {
        "push_history", "trigger.a.serving_config", "trigger.a.template", "trigger.b.of", "trigger.b.template",
    }  # fmt: skip
    assert "known are browse, cart, for-you" in found["trigger.a.serving_config"]
    assert "known are about" in found["trigger.a.template"]
    assert "fails for a rating: template.about.title: line 1" in found["trigger.b.template"]
    found = faults(
        tmp_path,
        "push_history = 0\n"
        "[serving.x]\nrerank = false\n[serving.y]\nrerank = false\n"
        "[trigger.a]\nevent = 'search'\nof = 'item'\nsame = true\nserving_config = 'search'\ntemplate = 'about'\n"
        "[template.about]\ntitle = 'For {{ query }}'\n",
    )
    assert set(found) == {"push_history", "serving.x.sources", "serving.y.sources", "trigger.a.of", "trigger.a.same"}
    assert "which a search never has" in found["trigger.a.of"]


@pytest.mark.parametrize("event", NEVER)
def test_what_follows_from_a_push_starts_no_trigger(event: str, tmp_path: Path) -> None:
    """A decision never leads to a decision, whatever the settings say."""
    table = f"[trigger.a]\nevent = '{event}'\nserving_config = 'for-you'\ntemplate = 't'\n[template.t]\ntitle = 'x'\n"
    assert "starts no trigger" in faults(tmp_path, table)["trigger.a.event"]


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("[template.x]\nbody = 'b'", "template.x.title", "is missing"),
        ("[template.x]\ntitle = ''", "template.x.title", "at least 1 character"),
        ("[template.x]\ntitle = 'a'\nbuddy = 'b'", "template.x.buddy", "known are title, body, url"),
        ("[template.x]\ntitle = '{% if %}'", "template.x.title", "line 1"),
        ('[template.x]\ntitle = "a"\nbody = "a\\n\\n{{ itm }}"', "template.x.body", "line 3: 'itm' is undefined"),
        ("[template.x]\ntitle = 'a'\nurl = '{{ item.link }}'", "template.x.url", "no attribute 'link'"),
        ("[template.x]\ntitle = '{% include \"y\" %}'", "template.x.title", "no loader"),
        ("[template.x]\ntitle = '{{ because.title }}'", "template.x.title", "write {% if because %}"),
        ("[template.x]\ntitle = 'a'\nbody = '{{ items[1].title }}'", "template.x.body", "{% if items | length > 1 %}"),
        ("[template.x]\ntitle = 'a'\nbody = '{{ item.attributes.size }}'", "template.x.body", "get('size', '')"),
        (f"[template.x]\ntitle = 'a'\nurl = '{'x' * 4097}'", "template.x.url", "at most 4096 characters"),
        ("[template.x]\ntitle = \"{{ 'a' * 10**9 }}\"", "template.x.title", "* makes more than 16384"),
        (
            "[trigger.x]\nevent = 'purchase'\nof = 'category'\nserving_config = 'for-you'\ntemplate = 't'",
            "trigger.x.of",
            "only a view",
        ),
        ("[trigger.x]\nevent = 'purchase'", "trigger.x.template", "is missing"),
        ("[trigger.x]\nevent = 'buy'", "trigger.x.event", "known are view, search"),
        ("[trigger.x]\nsilent = true", "trigger.x.silent", "known are event, serving_config"),
        ("[trigger.x]\ncount = 101", "trigger.x.count", "100"),
        ("[trigger.x]\nof = 'brand'", "trigger.x.of", "'any', 'item' or 'category'"),
        ("[trigger.x]\nttl_seconds = 0.5", "trigger.x.ttl_seconds", "greater than or equal to 1"),
        ("[trigger.x]\nttl_seconds = inf", "trigger.x.ttl_seconds", "finite"),
        ('[trigger.x]\ncollapse_key = "a\\tb"', "trigger.x.collapse_key", "control character"),
        ("[trigger.'a/b']\nevent = 'purchase'", "trigger.a/b", "match"),
        ("push_max_per_day = 1001", "push_max_per_day", "1000"),
        ("push_ttl_seconds = 0", "push_ttl_seconds", "1"),
        ("max_subscriptions_per_user = 0", "max_subscriptions_per_user", "1"),
    ],
)
def test_a_fault_of_push_settings_is_named_where_it_is(tmp_path: Path, text: str, field: str, said: str) -> None:
    """With the limit, or what is known; a template's with its line."""
    found = faults(tmp_path, text)
    assert field in found, found
    assert said in found[field]
