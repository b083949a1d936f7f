"""The same questions with the text itself in the prompt, whole or cut, and without any: what every wire is compared with.

Nothing is trained here. The model of the run says which frozen models are asked, by which prompts, and of how many vectors the
wires are that texts are cut for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.batching import evenly
from ripstop.data.question import Question, texts
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answered import ANSWERS, AS_COMPUTED, Answered, asked, measured, write_answers
from ripstop.evaluation.answers import follows
from ripstop.evaluation.asking import Asking, ask, check_asked, test_questions
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.joint import joint_answers
from ripstop.evaluation.text_bits import cut_to_bytes, cut_to_tokens, gzip_bytes, utf8_bytes, zstd_bytes
from ripstop.evaluation.wire_controls import swapped
from ripstop.frozen.arithmetic import compress, decompress
from ripstop.frozen.base import FrozenLM
from ripstop.models.soft_prompt import SoftPrompt, SoftPromptConfig
from ripstop.records import Measurement
from ripstop.wire.quantize import Bits, WireFormat, n_bytes

if TYPE_CHECKING:
    from ripstop.runs import Run


class TextAnswersConfig(PartConfig):
    """The test questions after the full text (`text`), no text (`closed`), its first tokens, as many as a wire has vectors
    (`cut_tokens`), and as much of it as takes no more UTF-8 bytes than a wire packed in each of `formats` (`cut_bytes`).

    swapped: after the text with another's answer in the place of its own too.
    n_coded: documents that are coded, by gzip, zstd and arithmetic coding under each frozen model, which reads them token by
        token; n_decoded of them are decoded again, and must come out as they were.
    joint: with several frozen models, what they write is weighed by all of them together.
    n_aligned: questions whose full text is given as its own embeddings too, as a wire would be.
    """

    kind: Literal["text_answers"] = "text_answers"
    formats: list[Bits] = []
    swapped: bool = True
    joint: bool = False
    n_coded: int = Field(8, ge=1)
    n_decoded: int = Field(1, ge=0)
    n_aligned: int = Field(8, ge=1)
    asking: Asking = Asking()
    files: ClassVar[tuple[str, ...]] = (ANSWERS,)
