"""Text that a model writes: sampled continuations of held-out documents, beside how the documents go on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import evenly
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, EOS
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.bits_per_byte import check_text
from ripstop.evaluation.translated import one_line
from ripstop.files import write_text
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.generate import GenerationConfig, generate
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run

FILE = "samples.jsonl"


class TextSamplesConfig(PartConfig):
    """Documents at equal distances among those that are long enough: their place alone picks them, and `seed` what is drawn.

    A text ends with its document's end, or after `generation.max_new_tokens`.
    """

    kind: Literal["text_samples"] = "text_samples"
    files: ClassVar[tuple[str, ...]] = (FILE,)
    split: Literal["valid", "test"] = "test"
    n: int = Field(4, ge=1, le=1000)
    prompt_tokens: int = Field(32, ge=1, le=2**20)
    generation: GenerationConfig = GenerationConfig(max_new_tokens=48, temperature=0.8, top_p=0.95)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _ends_with_the_document(self) -> TextSamplesConfig:
        if self.generation.eos not in (None, EOS):
            raise ValueError(f"generation.eos is {self.generation.eos}, and a document of this data ends with {EOS}; remove it")
        return self

    def check(self, run: Run) -> None:
        check_text(run)
        if not isinstance(run.model, DecoderOnlyConfig):
            raise ConfigError(f"text_samples needs a language model, and this is {run.model.kind}; remove this part")
        longest = run.data.longest_row.total
        if self.prompt_tokens >= longest:
            raise ConfigError(
                f"prompt_tokens: {self.prompt_tokens} leave nothing of a held-out row of {longest} tokens; lower it"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """`sample_bits_per_token`: what the model itself needs for the text that it wrote, low where it repeats itself."""
        data, model = subject.run.data, subject.model()
        assert isinstance(data, TextConfig)
        tokenizer, end = data.load_tokenizer(subject.data), self.prompt_tokens + self.generation.max_new_tokens
        long = [ids.tolist() for ids in data.pieces(subject.data, self.split) if len(ids) > self.prompt_tokens]
        if not long:
            raise ConfigError(f"prompt_tokens: no held-out document has more than {self.prompt_tokens} tokens; lower it")
        chosen = evenly(long, self.n)
        prompts = [[BOS, *ids[: self.prompt_tokens]] for ids in chosen]
        generator = torch.Generator(subject.device).manual_seed(self.seed)
        texts = generate(model, prompts, self.generation.replace(eos=EOS), generator=generator)
        written = []
        for number, (ids, prompt, text) in enumerate(zip(chosen, prompts, texts, strict=True)):
            sides = {"prompt": prompt[1:], "continuation": text, "reference": ids[self.prompt_tokens : end]}
            told = {side: one_line(tokenizer.decode(tokens)) for side, tokens in sides.items()}
            written.append(json.dumps({"sample": number, **told}, ensure_ascii=False) + "\n")
            ended = [EOS] if len(text) < self.generation.max_new_tokens else []
            bits, n = bits_of(model, prompt, [*text, *ended], subject.device)
            yield Measurement("sample_bits_per_token", bits / n, "bits", n, {"sample": number, **told})
        write_text(subject.out / FILE, "".join(written))


def bits_of(model: Model, prompt: list[int], text: list[int], device: torch.device) -> tuple[float, int]:
    """Bits of the tokens of `text` after `prompt`, all together, and how many tokens these are."""
    ids_BT = torch.tensor([[*prompt, *text]], device=device)
    batch = TokenBatch(ids_BT[:, :-1], ids_BT[:, 1:])
    at_BT = torch.zeros_like(batch.tokens_BT, dtype=torch.bool)
    at_BT[:, len(prompt) - 1 :] = True
    nats = F.cross_entropy(model(batch, at_BT).float(), batch.targets_BT[at_BT], reduction="sum")
    return float(nats) / math.log(2), len(text)
