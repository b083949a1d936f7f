"""Translation: its settings, the ratio of lengths, and the files that translations are kept in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.evaluation.translated import Translation, read_translations, write_translations
from ripstop.evaluation.translation import TranslationConfig, length_ratio

GENERATION = {"max_new_tokens": 4, "eos": 2}


def translations(*pairs: tuple[str, str]) -> list[Translation]:
    return [Translation("d", "s", hypothesis, reference) for hypothesis, reference in pairs]


def test_length_ratio_counts_words() -> None:
    assert length_ratio(translations(("one two three", "one two"), ("", "a b"))).value == 3 / 4
    with pytest.raises(ConfigError, match="the references of all 2 translated windows are empty"):
        length_ratio(translations(("word", ""), ("", " ")))


def test_translations_can_be_read_back(tmp_path: Path) -> None:
    made = [Translation("d 1", "q\n", "Größe\u2028x", "„Größe“"), Translation("d 2", "", "", " a \t b\r\n")]
    write_translations(tmp_path, made)
    assert read_translations(tmp_path / "translations.jsonl") == made
    sides = [(tmp_path / f"{side}.txt").read_text(encoding="utf-8") for side in ("sources", "hypotheses", "references")]
    assert sides == ["q\n\n", "Größe x\n\n", "„Größe“\na b\n"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such translations"),
        ("", "holds no translation"),
        ('{"document": "d"}\n', ":1: no translation"),
        ('{"document": "d", "source": "s", "hypothesis": 1, "reference": "r"}\n', ":1: no translation"),
        ("[]\n", ":1: no translation"),
        ("\n{\n", ":2: no translation"),
    ],
)
def test_what_is_no_file_of_translations_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "translations.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_translations(path)


def test_settings() -> None:
    parsed = TranslationConfig.parse({"generation": GENERATION}, "t")
    assert parsed.files == ("translations.jsonl", "sources.txt", "hypotheses.txt", "references.txt") and not parsed.exclusive
    for bad in ({"n_translations": 0}, {"batch_size": 0}, {"generation": {"eos": 2}}):
        with pytest.raises(ConfigError):
            TranslationConfig.parse({"generation": GENERATION} | bad, "t")
