"""The tables [tag.NAME]: all faults of a file at once, each with its line."""

from pathlib import Path

import pytest

from tidings_core.errors import InvalidInput
from tidings_server.settings import load
from tidings_server.tag_settings import BUILT_IN


def faults(tmp_path: Path, content: str) -> dict[str, str]:
    """What a file is refused for."""
    config = tmp_path / "server.toml"
    config.write_text(content)
    with pytest.raises(InvalidInput) as raised:
        load(config, {})
    return dict(raised.value.violations)


def rules(tmp_path: Path, content: str) -> dict[str, str]:
    """The rules of a file by name, with their expressions."""
    config = tmp_path / "server.toml"
    config.write_text(content)
    return {rule.name: rule.when.source for rule in load(config, {}).tag_rules}


def test_every_fault_of_every_rule_is_told_with_its_line(tmp_path: Path) -> None:
    """In an expression of several lines too, and in a table whose name has braces."""
    found = faults(
        tmp_path,
        """
[attribute.tier]
kind = "keyword"

[tag.bad]
when = "count('looked') > 3"
weight = "shoe"

[tag."likes:{category}"]
when = '''
  affinity(category) >=
    0.2 and or
'''

[tag.a]
when = "has_tag('b')"
[tag.b]
when = 'has_tag("a:x")'
""",
    )
    assert found["tag.bad.when"].startswith("line 6, column 7 of the expression: wants in count() one of view")
    assert found["tag.bad.weight"].startswith("line 7, column 1 of the expression: names 'shoe'")
    assert found["tag.likes:{category}.when"].startswith("line 12, column 13 of the expression: has 'or'")
    assert found["tag.a.when"] == "line 16: asks for itself in a circle: a -> b -> a"


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        ("[tag.Bad-Name]\nwhen = 'true'", "tag.Bad-Name", "is no name of a tag"),
        ("[tag.\"a\\u0000b\"]\nwhen = 'true'", "tag.a\x00b", "is no name of a tag"),
        ("[tag.x]\nweight = 2", "tag.x.when", "is missing"),
        ("[tag.x]\nwhen = 'true'\n[tag.\"x:{brand}\"]\nwhen = 'true'", "tag.x:{brand}", "is the tag x again"),
        ("[tag.\"x:{shoe}\"]\nwhen = 'true'", "tag.x:{shoe}.when", "goes through {shoe}: category, brand"),
        ("[tag.\"x:{age}\"]\nwhen = 'true'", "tag.x:{age}.when", "goes through {age}: category, brand"),
        ("[tag.x]\nwhen = 'true'\nlabel = 'y'", "tag.x.label", "known are when, weight, enabled"),
        ("[tag.x]\nwhen = '" + "true or " * 300 + "true'", "tag.x.when", "2000"),
        ("[tag.x]\nwhen = 'age'", "tag.x.when", "gives a number"),
        ("[attribute.Bad]\nkind = 'flag'\n[tag.x]\nwhen = 'age'", "attribute.Bad", ""),
    ],
)
def test_what_is_no_rule_is_refused(tmp_path: Path, content: str, field: str, said: str) -> None:
    """By name."""
    assert said in faults(tmp_path, content)[field]


BARE = 'serving_config = "for-you"\ntemplate = "t"\n[template.t]\ntitle = "x"\n'


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        ('event = "tag"\n', "tag", "is missing: name a tag"),
        ('event = "view"\ntag = "vip"\n', "tag", "is for the event tag, not for a view"),
        ('event = "tag"\ntag = "vip"\ncount = 3\n', "count", "leave it out"),
        ('event = "tag"\ntag = "vip"\nof = "item"\n', "of", "leave it out"),
        ('event = "tag"\ntag = "clicker"\n', "tag", "counts click, which follow from pushes"),
        ('event = "tag"\ntag = "deep:x"\n', "tag", "counts click, which follow from pushes"),
        (
            'event = "view"\nwhen = "age"\n',
            "when",
            "column 1 of the expression: gives a number; a flag is wanted",
        ),
        ('event = "view"\nwhen = "age >"\n', "when", "line 3, column 6 of the expression: ends where"),
        ('event = "tag"\ntag = "thin:x"\n', "tag", "goes by diet: sensitive"),
        ('event = "view"\nwhen = "known(diet)"\n', "when", "goes by diet: sensitive"),
        ('event = "view"\nwhen = "has_tag(\'thin\')"\n', "when", "goes by diet: sensitive"),
        ('event = "tag"\ntag = "a\\u0000"\n', "tag", "control character"),
    ],
)
def test_a_trigger_on_a_tag_or_with_a_condition_is_checked(tmp_path: Path, content: str, field: str, said: str) -> None:
    """A decision never leads to a decision, not through a tag that counts clicks either, however deep."""
    counting = "[attribute.diet]\nkind = 'keyword'\nsensitive = true\n[tag.thin]\nwhen = 'diet'\n"
    counting += "[tag.clicker]\nwhen = \"count('click') > 3\"\n[tag.deep]\nwhen = \"has_tag('clicker')\"\n"
    found = faults(tmp_path, f"[trigger.x]\n{content}{BARE}{counting}")
    assert said in found[f"trigger.x.{field}"]


def test_rules_that_cost_too_much_together_are_refused(tmp_path: Path) -> None:
    """A family is asked many times over; the dearest is named."""
    dear = " + ".join(["affinity(category)"] * 40)
    content = "".join(f"[tag.\"x{n}:{{category}}\"]\nwhen = '{dear} > 1'\n" for n in range(5))
    (problem,) = faults(tmp_path, content).values()
    assert "may cost 20000" in problem


def test_a_table_takes_the_place_of_a_built_in_one_or_takes_it_away(tmp_path: Path) -> None:
    """By its name without what is in braces; the others stay."""
    content = "[tag.gender]\nenabled = false\n[tag.recent_purchase]\nwhen = \"count('purchase', days=7) > 0\"\n"
    found = rules(tmp_path, content)
    names = {name.partition(":")[0] for name in BUILT_IN}
    assert set(found) == names - {"gender"}
    assert found["recent_purchase"] == "count('purchase', days=7) > 0"


def test_the_built_in_rules_are_without_fault(tmp_path: Path) -> None:
    """Also with attributes of a shop's own in the place of those built in, when their kinds fit."""
    assert set(rules(tmp_path, "[attribute.gender]\nkind = 'keyword'\nvalues = ['f', 'm']\n")) == {
        name.partition(":")[0] for name in BUILT_IN
    }


def test_a_built_in_rule_that_an_attribute_no_longer_fits_is_named(tmp_path: Path) -> None:
    """Whoever declares the age a text is told what goes by it."""
    found = faults(tmp_path, "[attribute.age]\nkind = 'keyword'\n")
    assert "age_group" in str(found)
