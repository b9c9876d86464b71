"""Words of any language, and search that finds what has more of them first."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core import text
from tidings_core.text import category_items, fold, index_categories, index_words, search, tokens

LATIN = st.text(st.sampled_from("abeiosuvxyzchfwl AEIOS'’-.,0129éßÀ\t"), max_size=40)
ANY = st.text(max_size=40)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("watch", "watches"),
        ("party", "parties"),
        ("shoe", "shoes"),
        ("glass", "glasses"),
        ("cookie", "cookies"),
        ("tie", "ties"),
        ("box", "boxes"),
        ("brush", "brushes"),
        ("house", "houses"),
        ("knife", "knives"),
        ("scarf", "scarves"),
        ("glove", "gloves"),
        ("potato", "potatoes"),
        ("size", "sizes"),
        ("woman's", "womans"),
        ("Größe", "GRÖSSE"),
        ("ＡＢＣ１２３", "abc123"),
        ("ｶﾒﾗ", "カメラ"),
    ],
)
def test_a_word_is_found_however_it_is_written(one: str, other: str) -> None:
    """Singular and plural, small and large, wide and narrow are one word."""
    assert tokens(one) == tokens(other) != []


@pytest.mark.parametrize(
    ("one", "other"), [("cap", "cape"), ("pin", "pine"), ("tub", "tube"), ("bus", "bu"), ("glass", "glas"), ("is", "i")]
)
def test_words_that_only_look_alike_stay_apart(one: str, other: str) -> None:
    """The stemmer takes plurals away, not meanings."""
    assert tokens(one) != tokens(other)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("Red mug, 350ml (2-pack)", ["red", "mug", "350ml", "2", "pack"]),
        ("智能手机", ["智能", "能手", "手机"]),
        ("茶", ["茶"]),
        ("3D打印机 Pro", ["3d", "打印", "印机", "pro"]),
        ("스마트폰", ["스마", "마트", "트폰"]),
        ("コーヒー・カップ", ["コー", "ーヒ", "ヒー", "カッ", "ップ"]),
        ("—!? …", []),
        ("", []),
    ],
)
def test_a_text_becomes_its_words_in_order(given_text: str, expected: list[str]) -> None:
    """Latin words and numbers whole, runs of CJK characters as overlapping pairs, nothing else."""
    assert tokens(given_text) == expected


@given(LATIN)
def test_the_words_of_words_are_the_words(given_text: str) -> None:
    """What was reduced is reduced no further, so that a title and a query meet."""
    assert tokens(" ".join(tokens(given_text))) == tokens(given_text)


@given(ANY)
def test_any_text_has_words_that_are_folded_short_and_not_empty(given_text: str) -> None:
    """Whatever is sent, no word is empty, longer than allowed or holds a blank, and capitals make no difference."""
    found = tokens(given_text)
    assert all(0 < len(word) <= text.WORD_LENGTH and not any(map(str.isspace, word)) for word in found)
    assert all(word == fold(word) for word in found if word.isascii())
    if given_text.isascii():
        assert tokens(given_text.upper()) == found
    assert tokens(unicodedata.normalize("NFD", given_text)) == found


TITLES = [
    "red mug",
    "red wooden train",
    "train station clock red",
    "mug",
    "智能手机 壳",
    "手表",
    "watch strap",
    "red red red",
]
WORDS = index_words([[(title, 1.0)] for title in TITLES])


def found(query: str, k: int = 10) -> list[str]:
    """Titles that a query finds, best first."""
    assert WORDS is not None
    return [TITLES[row] for row in search(query, WORDS, k)[0]]


def test_more_of_the_words_come_first() -> None:
    """An item with both words of a query is before those with one of them, however often they have it."""
    assert found("red train")[:2] == ["red wooden train", "train station clock red"]
    assert set(found("red train")) == {"red wooden train", "train station clock red", "red mug", "red red red"}


def test_one_chinese_character_finds_every_title_that_has_it() -> None:
    """Pairs are searched by pairs, and a query of one character by that character."""
    assert set(found("手")) == {"智能手机 壳", "手表"}
    assert found("手机") == ["智能手机 壳"]
    assert found("壳") == ["智能手机 壳"]


def test_what_nobody_wrote_is_not_found() -> None:
    """No word, no known word, or none wanted: nothing, and no failure."""
    assert found("") == found("???") == found("zeppelin") == found("red", 0) == []
    assert found("watches") == ["watch strap"]
    assert index_words([[("", 1.0)], []]) is None


documents = st.lists(
    st.lists(st.sampled_from(["red", "mug", "train", "手机", "box"]), max_size=6), min_size=1, max_size=12
)


@given(
    documents,
    st.lists(st.sampled_from(["red", "mugs", "train", "手机", "none"]), min_size=1, max_size=4),
    st.integers(1, 14),
)
def test_search_is_bm25_times_the_share_of_words_as_plain_python_says(
    given_documents: list[list[str]], query: list[str], k: int
) -> None:
    """Score by score against the formula written out, in order, ties by row."""
    words = index_words([[(" ".join(document), 1.0)] for document in given_documents])
    counted = [text.indexed_words(" ".join(document)) for document in given_documents]
    asked = list(dict.fromkeys(tokens(" ".join(query))))
    mean = sum(map(len, counted)) / len(counted)
    expected: dict[int, float] = {}
    for row, document in enumerate(counted):
        parts = []
        for word in asked:
            holders = sum(word in other for other in counted)
            times = document.count(word)
            if times:
                rarity = np.log(1 + (len(counted) - holders + 0.5) / (holders + 0.5))
                slack = text.K1 * (1 - text.B + text.B * len(document) / mean)
                parts.append(rarity * times * (text.K1 + 1) / (times + slack))
        if parts:
            expected[row] = sum(parts) * len(parts) / len(asked)
    if words is None:
        assert not expected
        return
    rows, scores = search(" ".join(query), words, k)
    assert len(rows) == min(k, len(expected)) == len(set(rows.tolist()))
    np.testing.assert_allclose(scores, sorted(expected.values(), reverse=True)[:k], rtol=1e-5)
    np.testing.assert_allclose(scores, [expected[row] for row in rows.tolist()], rtol=1e-5)
    assert [(-score, row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)] == sorted(
        (-score, row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
    )


def test_a_title_counts_more_than_a_description() -> None:
    """Fields weigh as they are given."""
    words = index_words([[("clock", 3.0), ("train on it", 1.0)], [("train", 3.0), ("clock on it", 1.0)]])
    assert words is not None
    assert search("train", words, 2)[0].tolist() == [1, 0]


def test_of_each_word_the_items_of_largest_weight_come_first() -> None:
    """The order that the release format promises."""
    assert WORDS is not None
    for word in range(len(WORDS.words)):
        weights = WORDS.weights[WORDS.offsets[word] : WORDS.offsets[word + 1]]
        assert (np.diff(weights) <= 0).all()


def test_a_category_holds_its_items_and_those_below_it_most_popular_first() -> None:
    """Every category on a path, whatever its case and width; ties by row."""
    paths = [["Home", "Lamps"], ["Home"], ["HOME", "Lamps"], ["Garden"], [], ["家居"]]
    found_categories = index_categories(paths, np.array([1, 5, 1, 2, 9, 3], np.float32))
    assert found_categories is not None
    assert category_items("home", found_categories, 9).tolist() == [1, 0, 2]
    assert category_items("ｈｏｍｅ ", found_categories, 2).tolist() == [1, 0]
    assert category_items("Lamps", found_categories, 9).tolist() == [0, 2]
    assert category_items("家居", found_categories, 9).tolist() == [5]
    assert category_items("Cellar", found_categories, 9).tolist() == []
    assert index_categories([[], [""]], np.zeros(2, np.float32)) is None
