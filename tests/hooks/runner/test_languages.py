import pytest

from runner.languages import LANGUAGES, pick


@pytest.mark.parametrize(
    ("language", "picked"), [("zh", "卷积 3 步"), ("en", "convolution 3 steps")]
)
def test_of_each_pair_one_half_is_kept(language, picked):
    assert pick("〔卷积｜convolution〕 3 〔步｜steps〕", language) == picked


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "text",
    ["", "a|b", "a｜b", "〔注〕", "〔一｜二｜三〕", "〔a｜b", "［a｜b］"],
)
def test_what_is_no_pair_stays_as_it_is(text, language):
    assert pick(text, language) == text


def test_a_half_may_be_empty_or_stand_on_several_lines():
    assert pick("x〔｜s〕", "zh") == "x"
    assert pick("x〔｜s〕", "en") == "xs"
    assert pick("〔一\n二｜one\ntwo〕", "en") == "one\ntwo"


def test_backslashes_and_dollars_are_not_special():
    assert pick(r"〔\1 $x$｜\g<0> \n〕", "en") == r"\g<0> \n"


def test_another_language_is_an_error():
    with pytest.raises(ValueError, match="not in"):
        pick("〔a｜b〕", "fr")
