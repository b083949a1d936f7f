"""A soft prompt from documents to what frozen models read: what is trained and saved, what a wire is, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models.soft_prompts import GEMMA, LLAMA, READERS, Info, questions, soft_prompt
from safetensors import safe_open
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.data.question import QuestionBatch
from ripstop.frozen.cache import KeyValues
from ripstop.models.accounting import describe
from ripstop.models.soft_prompt import SoftPrompt
from ripstop.models.soft_prompt_costs import reading_flops
from ripstop.models.weights import load_weights, save_weights
from ripstop.training.objectives.answers import AnswersConfig
from ripstop.wire.quantize import n_bytes, pack, unpack

DOCUMENTS = [question.document for question in questions(3)]
KEY_VALUES = {"adapter": {"output": "key_values"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "cache"))


def moved(model: SoftPrompt) -> SoftPrompt:
    """Every trainable weight away from the zeros that hide a path."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("kind", "changes"), [*((kind, {}) for kind in READERS), ("pointer", KEY_VALUES)])
def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(kind: str, changes: dict[str, Any]) -> None:
    config = soft_prompt(kind, two=True, **changes)
    model = moved(config.build(Info())).train()
    objective = AnswersConfig(distill=1.0, reconstruction=0.0 if changes else 1.0).build()
    objective(model, QuestionBatch(tuple(questions(3)))).sum.backward()
    trained = model.trained_state()
    for name, parameter in model.named_parameters():
        assert (name in trained) == parameter.requires_grad == (not name.startswith("lms."))
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, name
    assert not any(module.training for lm in model.lms.values() for module in lm.modules())
    parts = config.params_by_part(1)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    assert parts["compressor"] + parts["adapters"] == sum(tensor.numel() for tensor in trained.values())


def test_what_is_saved_is_what_is_trained_and_brings_everything_back(tmp_path: Path) -> None:
    config = soft_prompt(two=True)
    model = moved(config.build(Info())).eval()
    save_weights(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name, p in model.named_parameters() if p.requires_grad}
        assert file.metadata()["frozen_base"] == "; ".join(f"{name}: {lm.identity}" for name, lm in model.lms.items())
    again = config.build(Info()).eval()
    load_weights(again, tmp_path / "model.safetensors")
    with torch.no_grad():
        z_BMZ = model.wire(DOCUMENTS)
        assert torch.equal(again.wire(DOCUMENTS), z_BMZ)
        for name in model.lms:
            assert torch.equal(again.embeddings(z_BMZ, name), model.embeddings(z_BMZ, name))
    other = soft_prompt(two=True, frozen={"one": {**LLAMA, "seed": 7}, "two": GEMMA}).build(Info())
    with pytest.raises(ConfigError, match="trained on the frozen base"):
        load_weights(other, tmp_path / "model.safetensors")


@pytest.mark.parametrize("bits", ["fp16", "int8", "int6", "int4"])
def test_a_wire_arrives_as_it_is_packed(bits: str) -> None:
    config = soft_prompt(bits=bits, group=8)
    model, format = config.build(Info()), config.wire_format()
    z_BMZ = model.wire(DOCUMENTS, rounded=False)
    packed = [pack(z_MZ, format) for z_MZ in z_BMZ]
    assert {len(data) for data in packed} == {n_bytes(format)}
    assert torch.equal(model.wire(DOCUMENTS), torch.stack([unpack(data, format) for data in packed]))
    assert not torch.equal(model.wire(DOCUMENTS), z_BMZ)
    assert config.wire_format("int4").bits == "int4" and soft_prompt().wire_format().bits == "fp16"


@pytest.mark.parametrize("kind", READERS)
def test_a_wire_is_of_its_document_alone_and_of_its_words(kind: str) -> None:
    """White space and the other documents are none of its words (of bytes they are its own)."""
    model = moved(soft_prompt(kind).build(Info())).eval()
    with torch.no_grad():
        together = model.wire(DOCUMENTS)
        assert together.shape == (3, 4, 16)
        assert_close(model.wire(DOCUMENTS[1:2])[0], together[1], rtol=1e-4, atol=1e-5)
        if kind != "byte_resampler":
            assert_close(model.wire([f"\n {DOCUMENTS[1]}  "])[0], together[1], rtol=1e-4, atol=1e-5)
        assert torch.equal(together[0], together[1]) == (kind == "constant")


def test_features_are_read_once_those_to_train_on_together(tmp_path: Path) -> None:
    """A file of the cache for each reading: of the examples, of all documents to train on, of another one."""

    def n_files() -> int:
        return len(list((tmp_path / "cache" / "features").rglob("*.safetensors")))

    model = soft_prompt().build(Info())
    assert n_files() == 1
    counts = []
    for document in Info().training_documents():  # some of them are examples
        model.read([document])
        counts.append(n_files())
    assert counts == sorted(counts) and set(counts) <= {1, 2} and counts[-1] == 2
    for _ in range(2):
        model.read(["Nobody trains on this."])
        assert n_files() == 3


def test_every_channel_of_hidden_states_has_mean_0_and_deviation_1() -> None:
    model = soft_prompt(feature_layer=1).build(Info())
    found = model.read([example.document for example in Info().examples(8)])
    rows_ND = found.features[1][found.mask_BS]
    assert_close(rows_ND.mean(0), torch.zeros(32), rtol=0, atol=1e-4)
    assert_close(rows_ND.std(0, correction=0), torch.ones(32), rtol=0.02, atol=0)
    assert not found.features[0][~found.mask_BS].any() and not found.features[1][~found.mask_BS].any()


def test_the_first_soft_prompt_is_as_large_as_the_models_embeddings() -> None:
    model = soft_prompt(two=True).build(Info())
    for name, lm in model.lms.items():
        rms_BM = model.embeddings(model.wire(DOCUMENTS), name).square().mean(-1).sqrt()
        assert_close(rms_BM, torch.full((3, 4), lm.embedding_rms), rtol=1e-3, atol=0)


def test_a_sure_pointer_sends_words_that_both_models_know() -> None:
    """With a latent space as wide as the embeddings, a vector that points at one token arrives as that token's embedding; what
    another model reads is close to its own embedding of the same byte, as far as least squares go between random tables."""
    frozen = {"one": LLAMA, "two": {**GEMMA, "merges": 0}}
    compressor = {"kind": "pointer", "start": "truncation", "d_key": 6, "d_hidden": 7}
    model = soft_prompt(two=True, frozen=frozen, compressor=compressor, d_z=32).build(Info()).eval()
    with torch.no_grad():
        model.compressor.position_MS.fill_diagonal_(100)  # type: ignore[operator,union-attr]
        z_BMZ = model.wire(DOCUMENTS)
        for name, lm in model.lms.items():
            ids = torch.tensor([lm.words(document)[:4] for document in DOCUMENTS])
            table_VD = torch.nn.functional.normalize(lm.embed(torch.arange(lm.vocab_size)), dim=-1)
            cosine_BMV = torch.nn.functional.normalize(model.embeddings(z_BMZ, name), dim=-1) @ table_VD.T
            own_BM1 = cosine_BMV.gather(2, ids.unsqueeze(2))
            if name == "one":
                assert torch.equal(cosine_BMV.argmax(-1), ids)
            assert own_BM1.mean() > cosine_BMV.mean() + 0.3, name


def test_keys_and_values_start_with_the_models_own_means_and_deviations() -> None:
    model = soft_prompt("constant", **KEY_VALUES).build(Info())
    lm, adapter = model.lms["one"], model.adapters["one"]
    past = lm.prefix([*lm.bos, *(i for example in Info().examples(8) for i in lm.words(example.document))])
    assert past is not None
    (one,) = adapter(torch.zeros(1, 4, 16))  # type: ignore[call-arg]
    assert isinstance(one, KeyValues) and len(one) == 4 and len(one.keys) == lm.n_layers
    for layer in range(lm.n_layers):
        for got_GMK, own_BGSK in ((one.keys[layer], past.keys[layer]), (one.values[layer], past.values[layer])):
            assert_close(got_GMK, own_BGSK[0].mean(1, keepdim=True).expand(-1, 4, -1))
    drawn = adapter(torch.randn(200, 4, 16))  # type: ignore[call-arg]
    own = past.values[1][0].std(1, correction=0)
    assert_close(torch.stack([row.values[1] for row in drawn]).std((0, 2)), own, rtol=0.5, atol=0)


def test_costs_are_those_that_torch_counts() -> None:
    """Within what norms weigh. The causal half of the scores is left out, which torch computes in vain."""
    config = soft_prompt(two=True)
    for lm in config.build(Info()).lms.values():
        n = 37
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            lm.model(inputs_embeds=torch.randn(2, n, lm.width))
        vain = 2 * lm.n_layers * 4 * lm.sizes.n_heads * lm.head_dim * (n * n - n * (n + 1) // 2)
        assert 2 * reading_flops(lm.sizes, n, n) == pytest.approx(counter.get_total_flops() - vain, rel=0.02)
    described = describe(config, 1, 64)
    assert described["parameters"] == sum(described["parameters_by_part"].values()) > 0
    assert (
        config.batch_flops(1, QuestionBatch(tuple(questions(6))))
        > config.batch_flops(1, QuestionBatch(tuple(questions(3))))
        > 0
    )
    assert config.state_bytes(10, torch.float32) == 10 * 4 * 2 * 2 * (
        16 + 12
    )  # tokens, bytes, k and v, layers, width of a head


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features_of": None}, "reads features of a frozen model; name one of one"),
        ({"features_of": "two"}, "name one of one"),
        ({"compressor": {"kind": "constant"}}, "constant reads nothing; set it to null"),
        ({"frozen": {"half": LLAMA}, "features_of": "half"}, "torch uses the word itself"),
        ({"frozen": {}}, "frozen"),
        ({"compressor": {"kind": "pointr"}}, "did you mean 'pointer'"),
        ({"bits": "int3"}, "bits"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_configuration(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        soft_prompt(**changes)


@pytest.mark.parametrize("kind", ["pointer", "byte_resampler"])
def test_an_empty_document_is_refused(kind: str) -> None:
    model = soft_prompt(kind).build(Info())
    with pytest.raises(ConfigError, match="a document is empty"):
        model.wire([DOCUMENTS[0], ""])


def test_data_without_questions_and_reconstruction_of_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="use kind: questions"):
        soft_prompt().build(Vocabulary(1))
    model = soft_prompt(**KEY_VALUES).build(Info())
    with pytest.raises(ConfigError, match="output is key_values"):
        model.words_lost(model.wire(DOCUMENTS), DOCUMENTS, "one")
