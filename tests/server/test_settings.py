"""Settings come from file, environment and command line; what is wrong is said all at once."""

from pathlib import Path
from typing import Any

import pytest

from tidings_core.errors import InvalidInput
from tidings_core.model import SERVING_CONFIGS, Diversity, ServingConfig, SourceUse
from tidings_server.default_config import default_config
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
    """Taking the comment signs off the printed serving configs gives what is built in."""
    settings = from_toml(tmp_path, default_config().replace("#: ", ""))
    assert set(settings.serving) == set(SERVING_CONFIGS)
    assert settings.serving_configs == SERVING_CONFIGS


def test_every_setting_is_described_in_the_printed_config() -> None:
    """Nobody has to read the code to know what a setting does."""
    text = default_config()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert field.description in text
        assert name == "serving" or f"\n{name} = " in text


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    """Each with the setting, the value and the limit."""
    found = faults(
        tmp_path,
        'max_batch = 0\nlisten = "nonsense"\ndrain_seconds = nan\nfront = "carrier pigeon"\nmax_wating = 3\n'
        "[serving.for-you]\nsources = [{name = 'ann', k = 0}]\n",
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
    assert len(found) == 7


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("[serving.x]\nsources = [{name = 'magic', k = 5}]", "serving.x.sources[0].name", "known are ann, similar"),
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
