"""Documents: windows of whole neighbouring pieces, batches that lose nothing, streams that resume."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ripstop.batch import IGNORE, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import load_sequences
from ripstop.data.document_stream import DocumentStream, LengtheningStream
from ripstop.data.documents import DocumentsConfig
from ripstop.data.packing import PackedStream
from ripstop.data.token_vectors import token_vectors
from ripstop.data.tokenizer import BOS, EOS, PAD
from ripstop.data.windows import DocumentWindow, cut

N_PIECES = {"train": [7, 1, 12, 5], "valid": [3, 4], "test": [6, 2, 3, 9, 1]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Local documents whose pieces have 1 to 7 words; piece i of a document begins with its own word."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    for split, sizes in N_PIECES.items():
        with (folder / f"{split}.jsonl").open("w") as file:
            for d, size in enumerate(sizes):
                words = [["w" * int(n) for n in generator.integers(1, 9, generator.integers(1, 8))] for _ in range(size)]
                english = [" ".join([f"{split[:2]}{d}.{i}", *row]) for i, row in enumerate(words)]
                german = [" ".join([f"{split[:2]}{d}.{i}", *row[::-1], "ü"]) for i, row in enumerate(words)]
                file.write(json.dumps({"document": f"{split}/{d}", "en": english, "de": german}) + "\n")
    return folder


def config(source: Path, **changes: Any) -> DocumentsConfig:
    values = {"source": {"path": str(source)}, "tokenizer": {"kind": "bpe", "vocab_size": 270}, "max_tokens": 90}
    return DocumentsConfig.parse(values | changes, "data")


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    config(source).prepare(folder)
    return folder


def stream(source: Path, data: Path, seed: int = 0, **training: Any) -> DocumentStream:
    values = {"steps": 1, "tokens_per_step": 300, "accumulation": 1} | training
    result = config(source).stream(data, StreamPlan(**values, seed=seed))
    assert isinstance(result, DocumentStream)
    return result


def rows_of(batch: TokenBatch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    sources, targets = batch.source_BS.tolist(), batch.targets_BT.tolist()
    return [
        (tuple(t for t in s if t != PAD), tuple(t for t in y if t != IGNORE)) for s, y in zip(sources, targets, strict=True)
    ]


def assert_same(one: TokenBatch, other: TokenBatch) -> None:
    for name, value in vars(one).items():
        same = torch.equal(value, getattr(other, name)) if isinstance(value, Tensor) else value == getattr(other, name)
        assert same, name


def piece(doc: str, source: int, target: int, name: str = "") -> DocumentWindow:
    return DocumentWindow("ab".index(doc), "same name", name, name, [3] * source, [3] * target)


def test_cut_by_hand() -> None:
    """max_tokens 10 leaves 9 for pieces."""
    pieces = [
        piece("a", 4, 4, "1"),
        piece("a", 5, 4, "2"),
        piece("a", 1, 1, "3"),
        piece("b", 1, 1, "4"),
        piece("b", 2, 8, "5"),
    ]
    pieces += [piece("b", 10, 1, "long"), piece("b", 1, 1, "6"), piece("b", 1, 1, "7"), piece("b", 1, 1, "8")]
    joined = [True] * 6 + [False, True, True]
    names = [[p.source_text for p in window] for window in cut(pieces, joined, 10)]
    assert names == [["1", "2"], ["3"], ["4", "5"], ["6"], ["7", "8"]]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 12), st.integers(1, 12), st.booleans()), max_size=30),
    st.integers(4, 40),
)
def test_cut_keeps_order_fits_and_is_greedy(rows: list[tuple[str, int, int, bool]], max_tokens: int) -> None:
    pieces = [piece(doc, s, t, str(i)) for i, (doc, s, t, _) in enumerate(rows)]
    joined = [row[3] for row in rows]
    windows = list(cut(pieces, joined, max_tokens))
    indices = [[int(p.source_text) for p in window] for window in windows]
    fitting = [i for i, (_, s, t, _) in enumerate(rows) if max(s, t) < max_tokens]
    assert [i for window in indices for i in window] == fitting
    for window in indices:
        assert window == list(range(window[0], window[-1] + 1))
        assert len({rows[i][0] for i in window}) == 1
        assert len(window) == 1 or joined[window[0]]
        assert all(sum(rows[i][side] for i in window) < max_tokens for side in (1, 2))
        following = [*window, window[-1] + 1]
        if joined[window[0]] and following[-1] < len(rows) and rows[following[-1]][0] == rows[window[0]][0]:
            assert any(sum(rows[i][side] for i in following) >= max_tokens for side in (1, 2))


def test_prepared_description(source: Path, data: Path) -> None:
    description = json.loads((data / "data.json").read_text())
    assert description["vocab_size"] == config(source).vocab_size(data) <= 270
    for split, sizes in N_PIECES.items():
        counts = description["splits"][split]
        assert (counts["documents"], counts["pieces"], counts["pieces_too_long"]) == (len(sizes), sum(sizes), 0)
    written = {path.name for path in data.iterdir()}
    held_out = {f"{split}.{ending}" for split in ("valid", "test") for ending in ("safetensors", "jsonl")}
    assert written == {"data.json", "tokenizer.json", "train.safetensors", "token_vectors.safetensors"} | held_out


def test_the_tokenizer_has_seen_training_alone(source: Path, tmp_path: Path, data: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for split in N_PIECES:
        text = (source / f"{split}.jsonl").read_text()
        (other / f"{split}.jsonl").write_text(text if split == "train" else text.replace("w", "xyz"))
    config(other).prepare(tmp_path / "data")
    assert (tmp_path / "data/tokenizer.json").read_bytes() == (data / "tokenizer.json").read_bytes()
    assert (tmp_path / "data/test.safetensors").read_bytes() != (data / "test.safetensors").read_bytes()


def test_preparing_twice_gives_the_same(source: Path, tmp_path: Path, data: Path) -> None:
    torch.manual_seed(5)
    config(source).prepare(tmp_path)
    for path in data.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_held_out_windows_are_whole_neighbouring_pieces(source: Path, data: Path) -> None:
    mine = config(source)
    tokenizer = mine.load_tokenizer(data)
    windows = mine.test_windows(data, "test")
    rows = [json.loads(line) for line in (source / "test.jsonl").read_text().splitlines()]
    for row in rows:  # the windows of a document are the document
        held = [window for window in windows if window.doc_id == row["document"]]
        assert " ".join(window.source_text for window in held) == " ".join(row["en"])
        assert " ".join(window.target_text for window in held) == " ".join(row["de"])
        assert sum(window.n_pieces for window in held) == len(row["en"])
    assert max(window.n_pieces for window in windows) > 1
    for window in windows:
        assert window.target_text.split()[0] == window.source_text.split()[0]
        assert window.source_ids == [*tokenizer.encode(window.source_text), EOS]
        assert window.target_ids == [*tokenizer.encode(window.target_text), EOS]
        assert max(len(window.source_ids), len(window.target_ids)) <= 90


def test_test_batches_hold_every_window_once_and_never_one_alone(source: Path, data: Path) -> None:
    mine = config(source)
    windows = Counter((tuple(w.source_ids), tuple(w.target_ids)) for w in mine.test_windows(data, "test"))
    moved = 0
    for tokens in range(200, 1000, 10):
        batches = list(mine.held_out(data, "test", tokens))
        assert Counter(row for batch in batches for row in rows_of(batch)) == windows
        # One row beyond the budget only where the last would stand alone beside two.
        assert all(batch.n_tokens <= tokens for batch in batches[:-1])
        assert batches[-1].n_tokens <= tokens * (1.5 if len(batches[-1].tokens_BT) == 3 else 1)
        sizes = [len(batch.tokens_BT) for batch in batches]
        moved += sizes[-1] == 2
        assert sizes[-1] > 1 or sizes[-2] == 1
    assert moved


def test_batch_by_hand(source: Path, data: Path) -> None:
    batch = next(config(source).held_out(data, "valid", 400))
    for tokens, targets, segments, src, src_segments in zip(
        *(
            t.tolist()
            for t in (batch.tokens_BT, batch.targets_BT, batch.segments_BT, batch.source_BS, batch.source_segments_BS)
        ),
        strict=True,
    ):
        n, m = sum(segments), sum(src_segments)
        assert segments == [1] * n + [0] * (len(tokens) - n)
        assert targets[n - 1] == EOS and targets[n:] == [IGNORE] * (len(tokens) - n)
        assert tokens[:n] == [BOS, *targets[: n - 1]] and tokens[n:] == [PAD] * (len(tokens) - n)
        assert src[m - 1] == EOS and src[m:] == [PAD] * (len(src) - m) and src_segments == [1] * m + [0] * (len(src) - m)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_an_epoch_holds_every_window_once_within_the_budget(source: Path, data: Path, accumulation: int) -> None:
    chosen = stream(source, data, tokens_per_step=300 * accumulation, accumulation=accumulation)
    n_windows = json.loads((data / "data.json").read_text())["splits"]["train"]["windows"]
    epochs = []
    for _ in range(2):
        batches = [next(chosen)]
        while chosen.position < len(chosen._batches):
            batches.append(next(chosen))
        assert all(batch.n_tokens <= 300 for batch in batches)
        epochs.append([row for batch in batches for row in rows_of(batch)])
    assert len(epochs[0]) == n_windows
    assert Counter(epochs[0]) == Counter(epochs[1])
    assert epochs[0] != epochs[1]


def test_stream_is_a_function_of_its_seed_and_resumes_anywhere(source: Path, data: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    undisturbed = stream(source, data, seed=3)
    states, batches = [], []
    for _ in range(2 * len(undisturbed._batches) + 3):
        states.append(json.loads(json.dumps(undisturbed.state_dict())))
        batches.append(next(undisturbed))
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    torch.manual_seed(9)
    np.random.seed(9)
    for position, state in enumerate(states):
        resumed = stream(source, data, seed=3)
        resumed.load_state_dict(state)
        for batch in batches[position : position + 4]:
            assert_same(next(resumed), batch)
    other = stream(source, data, seed=4)
    assert [rows_of(next(other)) for _ in range(3)] != [rows_of(batch) for batch in batches[:3]]


def test_a_training_ends_on_longer_windows(source: Path, tmp_path: Path) -> None:
    """Four steps of two batches, of which the last quarter is long; whenever it resumes."""
    mine = config(source, max_tokens=60, long={"max_tokens": 150, "share": 0.25})
    mine.prepare(tmp_path)
    plan = StreamPlan(4, 800, 2, 0)
    undisturbed = mine.stream(tmp_path, plan)
    assert isinstance(undisturbed, LengtheningStream)
    states, batches = [], []
    for _ in range(12):
        states.append(json.loads(json.dumps(undisturbed.state_dict())))
        batches.append(next(undisturbed))
    longest = [max(max(map(len, pair)) for pair in rows_of(batch)) for batch in batches]
    assert max(longest[:6]) <= 60 < min(longest[6:]) and max(longest) <= 150
    assert all(batch.n_tokens <= 400 for batch in batches)
    for position, state in enumerate(states):
        resumed = mine.stream(tmp_path, plan)
        resumed.load_state_dict(state)
        for batch in batches[position : position + 3]:
            assert_same(next(resumed), batch)
    # The first part is that of a training without them, and a share of none leaves all of it.
    for other in (config(source, max_tokens=60), mine.replace(long={"max_tokens": 150, "share": 0.0})):
        alike = other.stream(tmp_path, plan)
        assert isinstance(alike, DocumentStream)
        for batch in batches[:6]:
            assert_same(next(alike), batch)


def test_long_windows_of_a_held_out_split(source: Path, tmp_path: Path) -> None:
    mine = config(source, max_tokens=60, long={"max_tokens": 150, "share": 0.0})
    mine.prepare(tmp_path)
    tokenizer = mine.load_tokenizer(tmp_path)
    rows = [json.loads(line) for line in (source / "test.jsonl").read_text().splitlines()]
    held = [pair for batch in mine.held_out_long(tmp_path, "test", 1000) for pair in rows_of(batch)]
    texts = [tokenizer.decode(target) for _, target in held]
    for row in rows:  # each document in few windows, all of its pieces
        parts = [text for text in texts if text.split()[0] in {piece.split()[0] for piece in row["de"]}]
        assert sorted(" ".join(parts).split()) == sorted(" ".join(row["de"]).split())
    short = [pair for batch in mine.held_out(tmp_path, "test", 1000) for pair in rows_of(batch)]
    assert len(held) < len(short)
    assert sorted(tuple(w.source_ids) for w in mine.test_windows(tmp_path)) == sorted(source for source, _ in short)
    assert (mine.longest_row.tokens, mine.longest_row.source) == (150, 150)
    with pytest.raises(ConfigError, match=r"data\.long: the data has no long windows"):
        config(source).held_out_long(tmp_path, "test", 1000)
    with pytest.raises(ConfigError, match=r"long\.max_tokens: 90 is no more than max_tokens 90; raise it"):
        config(source, long={"max_tokens": 90, "share": 0.5})


@pytest.mark.parametrize("concatenate", ["consecutive", "random"])
def test_at_most_n_pieces_are_joined_in_training(source: Path, tmp_path: Path, concatenate: str) -> None:
    mine = config(source, most_pieces=2, concatenate_probability=1.0, concatenate=concatenate)
    mine.prepare(tmp_path)
    tokenizer = mine.load_tokenizer(tmp_path)
    texts = [tokenizer.decode(row) for row, _ in rows_of(next(mine.stream(tmp_path, StreamPlan(1, 10**6, 1, 0))))]
    assert {sum(word.startswith("tr") for word in text.split()) for text in texts} == {1, 2}
    assert max(window.n_pieces for window in mine.test_windows(tmp_path)) > 2  # what is tested stays as it is


def test_vectors_are_prepared_where_they_are_asked_for(source: Path, tmp_path: Path, data: Path) -> None:
    mine = config(source, token_vectors=4, tokenizer={"kind": "bytes"}, max_tokens=60, concatenate_probability=0.0)
    corpus_of = {split: [{"document": str(i), "en": [f"w{i} x"], "de": [f"d{i} y"]} for i in range(60)] for split in N_PIECES}
    mine = mine.replace(source={"path": str(corpus(tmp_path / "corpus", **corpus_of))})
    mine.prepare(tmp_path / "data")
    info = mine.info(tmp_path / "data")
    columns = load_sequences(tmp_path / "data/train.safetensors")
    expected = token_vectors(columns["source"], columns["target"], info.vocab_size, 4)
    assert all(torch.equal(a, b) for a, b in zip(info.token_vectors(4), expected, strict=True))
    with pytest.raises(ConfigError, match=r"data\.token_vectors: the data has none"):
        config(source).info(data).token_vectors(4)


@pytest.mark.parametrize(("n", "names"), [(2, ["test/0", "test/2"]), (3, ["test/0", "test/1", "test/3"]), (9, None)])
def test_some_of_the_held_out_documents(source: Path, tmp_path: Path, data: Path, n: int, names: list[str] | None) -> None:
    mine = config(source, held_out_documents=n)
    mine.prepare(tmp_path)
    found = list(dict.fromkeys(window.doc_id for window in mine.test_windows(tmp_path)))
    assert found == (names or [f"test/{i}" for i in range(5)])
    assert mine.description(tmp_path)["splits"]["test"]["documents"] == len(found)
    assert (tmp_path / "train.safetensors").read_bytes() == (data / "train.safetensors").read_bytes()


def test_packed_training(source: Path, data: Path, tmp_path: Path) -> None:
    mine = config(source, pack=200)
    chosen = mine.stream(data, StreamPlan(1, 800, 1, 0))
    assert isinstance(chosen, PackedStream)
    assert next(chosen).segments_BT.max() > 1
    with pytest.raises(ConfigError, match="pack: 80 holds no window of 90, the longest; raise it"):
        config(source, pack=80)
    with pytest.raises(ConfigError, match="a batch of 300 tokens does not hold a packed row, which takes 400; raise it"):
        mine.check(StreamPlan(1, 300, 1, 0))
    mine.check(StreamPlan(1, 400, 1, 0))


@pytest.mark.parametrize("concatenate", ["consecutive", "random"])
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_training_windows(source: Path, tmp_path: Path, concatenate: str, probability: float) -> None:
    mine = config(source, concatenate=concatenate, concatenate_probability=probability)
    mine.prepare(tmp_path)
    tokenizer = mine.load_tokenizer(tmp_path)
    chosen = mine.stream(tmp_path, StreamPlan(1, 10**6, 1, 0))
    texts = [tokenizer.decode(row) for row, _ in rows_of(next(chosen))]
    pieces = [[word for word in text.split() if word.startswith("tr")] for text in texts]
    everything = [f"tr{d}.{i}" for d, size in enumerate(N_PIECES["train"]) for i in range(size)]
    assert sorted(name for window in pieces for name in window) == sorted(everything)
    assert (max(map(len, pieces)) == 1) == (probability == 0)
    neighbours = [(a, b) for window in pieces for a, b in zip(window, window[1:], strict=False)]
    in_order = [everything.index(b) == everything.index(a) + 1 for a, b in neighbours]
    if probability == 1:
        assert all(in_order) if concatenate == "consecutive" else not all(in_order)
        of_one_document = [a.split(".")[0] == b.split(".")[0] for a, b in neighbours]
        assert all(of_one_document) if concatenate == "consecutive" else not all(of_one_document)
    # What is tested does not depend on how training was cut.
    assert max(window.n_pieces for window in mine.test_windows(tmp_path, "test")) > 1


def test_pieces_too_long_are_left_out_and_counted(source: Path, tmp_path: Path) -> None:
    config(source, max_tokens=14).prepare(tmp_path)
    counts = json.loads((tmp_path / "data.json").read_text())["splits"]["train"]
    assert counts["pieces_too_long"] > 0
    assert counts["pieces"] + counts["pieces_too_long"] == sum(N_PIECES["train"])
    with pytest.raises(ConfigError, match=r"data\.max_tokens: no piece of split 'train' fits into 8; raise it"):
        config(source, max_tokens=8, tokenizer={"kind": "bytes"}).prepare(tmp_path / "none")
    assert not (tmp_path / "none/data.json").exists()


def corpus(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """A folder with these rows, and two short documents in every other split."""
    folder.mkdir()
    for split in N_PIECES:
        rows = splits.get(split) or [{"document": f"{i}", "en": [f"{split} {i}"], "de": [f"x {split} {i}"]} for i in range(2)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("names", [("a", "a", "a"), (None, None, None), ("a", "b", "a")])
def test_documents_are_told_apart_by_their_place_not_their_name(tmp_path: Path, names: tuple[str | None, ...]) -> None:
    """Neighbours with the same name or none are never joined into one window."""
    rows = [{"document": name, "en": [f"w{d}.0", f"w{d}.1"], "de": [f"d{d}.0", f"d{d}.1"]} for d, name in enumerate(names)]
    mine = config(corpus(tmp_path / "corpus", train=rows, test=rows), concatenate_probability=1.0)
    mine.prepare(tmp_path / "data")
    windows = mine.test_windows(tmp_path / "data")
    assert [(window.document, window.source_text) for window in windows] == [(d, f"w{d}.0 w{d}.1") for d in range(3)]
    assert [window.doc_id for window in windows] == [str(d) if name is None else name for d, name in enumerate(names)]
    tokenizer = mine.load_tokenizer(tmp_path / "data")
    batch = next(mine.stream(tmp_path / "data", StreamPlan(1, 10**4, 1, 0)))
    assert sorted(tokenizer.decode(row) for row, _ in rows_of(batch)) == [f"w{d}.0 w{d}.1" for d in range(3)]


def test_pieces_with_an_empty_side_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"document": "a", "en": ["w0", "", "w2", "w3"], "de": ["d0", "d1", " ", "d3"]}]
    other = [{"document": "b", "en": ["w5"], "de": ["d5"]}]
    mine = config(corpus(tmp_path / "corpus", test=rows + other))
    mine.prepare(tmp_path / "data")
    # Nothing is joined across the gap.
    assert [(w.source_text, w.target_text) for w in mine.test_windows(tmp_path / "data")] == [
        ("w0", "d0"), ("w3", "d3"), ("w5", "d5"),
    ]  # fmt: skip
    counts = mine.description(tmp_path / "data")["splits"]["test"]
    assert (counts["documents"], counts["pieces"], counts["pieces_empty"], counts["pieces_too_long"]) == (2, 3, 2, 0)


def test_what_is_held_out_and_stands_in_training_is_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair counts with both sides: the same source with another translation does not."""
    train = [{"document": "a", "en": ["same", "half", "own", ""], "de": ["gleich", "halb", "eigen", ""]}]
    test = [{"document": "b", "en": ["same", "half", "new"], "de": ["gleich", "anders", "neu"]}, train[0] | {"document": "c"}]
    mine = config(corpus(tmp_path / "corpus", train=train, test=test))
    mine.prepare(tmp_path / "data")
    counts = mine.description(tmp_path / "data")["splits"]
    assert (counts["test"]["pieces_also_in_train"], counts["valid"]["pieces_also_in_train"]) == (4, 0)
    assert "pieces_also_in_train" not in counts["train"]
    assert "test: 4 of 6 pieces also stand in train" in capsys.readouterr().out


def test_a_test_split_that_comes_to_one_window_is_refused(tmp_path: Path) -> None:
    """The control `wrong` has nothing to take there; better told before a training than after."""
    rows = [{"document": f"{i}", "en": ["same"], "de": ["gleich"]} for i in range(3)]
    with pytest.raises(ConfigError, match="all windows of the test split are the same; a test needs 2 that differ"):
        config(corpus(tmp_path / "corpus", test=rows)).prepare(tmp_path / "data")


def test_validation_is_the_split_of_that_name(source: Path, data: Path) -> None:
    mine = config(source)
    rows = [row for batch in mine.validation(data, StreamPlan(1, 300, 1, 0)) for row in rows_of(batch)]
    wanted = [(tuple(w.source_ids), tuple(w.target_ids)) for w in mine.test_windows(data, "valid")]
    assert Counter(rows) == Counter(wanted)
    assert all(batch.n_tokens <= 300 for batch in mine.validation(data, StreamPlan(1, 300, 1, 0)))


def test_no_row_of_the_three_splits_is_anothers(source: Path, data: Path) -> None:
    """Each piece begins with a word of its own: by what stands in the files, no split holds another's."""
    mine = config(source)
    tokenizer = mine.load_tokenizer(data)
    found = {}
    for split in N_PIECES:
        columns = load_sequences(data / f"{split}.safetensors")
        texts = [tokenizer.decode(row) for column in columns.values() for row in column]
        found[split] = {word for text in texts for word in text.split() if "." in word}
    assert found == {
        split: {f"{split[:2]}{d}.{i}" for d, n in enumerate(sizes) for i in range(n)} for split, sizes in N_PIECES.items()
    }


@pytest.mark.parametrize("name", ["test.jsonl", "test.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"document": "a"}\n', b"[" * 10**5])
def test_a_broken_prepared_file_is_one_sentence(source: Path, data: Path, tmp_path: Path, name: str, content: bytes) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / name).write_bytes(content)
    mine = config(source)
    with pytest.raises(ConfigError, match=f"{name}: cannot be read .*prepare the data again") as caught:
        mine.load_tokenizer(tmp_path / "data")
        mine.test_windows(tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_direction_swaps_the_sides(source: Path, tmp_path: Path, data: Path) -> None:
    there, back = config(source), config(source, direction="de-en")
    back.prepare(tmp_path)
    assert " ".join(w.source_text for w in back.test_windows(tmp_path, "test")) == " ".join(
        w.target_text for w in there.test_windows(data, "test")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "en-fr"}, "direction 'en-fr' needs two of the languages de, en"),
        ({"direction": "en-en"}, "direction 'en-en' needs two"),
        ({"direction": "english"}, "direction"),
        ({"source": "koran"}, "source"),
        ({"max_token": 3}, "unknown key; did you mean 'max_tokens'"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"tokenizer": {"kind": "bpe", "vocab_size": 10**9}}, "vocab_size"),
    ],
)
def test_bad_configuration_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DocumentsConfig.parse(changes, "data")


def test_too_few_tokens_for_a_window(source: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="batch of 40 tokens does not hold a row of .*raise tokens_per_step"):
        stream(source, data, tokens_per_step=40)


def test_unprepared_data_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.json: no such file; the data is not prepared, run"):
        config(source).vocab_size(tmp_path)
    with pytest.raises(ConfigError, match=r"tokenizer\.json: no such file; run"):
        config(source).load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"test\.safetensors: no such file; run"):
        config(source).test_windows(tmp_path, "test")


def test_configuration_survives_a_file(source: Path) -> None:
    for mine in (config(source), DocumentsConfig()):
        assert DocumentsConfig.parse(mine.model_dump(mode="json"), "data") == mine
        assert DocumentsConfig.parse(mine.model_dump(mode="json"), "data").id == mine.id
