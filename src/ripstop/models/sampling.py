"""A prompt read once, and continued token by token as often as asked: each token is there before the next is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ripstop.config import ConfigError
from ripstop.mixers.base import reorder_state
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig, choose


class Prompted:
    """The state behind a prompt, with room for `room` tokens more. A token then costs one step, whatever came before it costs
    only where a mixer's step reads it."""

    @torch.inference_mode()
    def __init__(self, model: Model, prompt: Sequence[int], room: int):
        if not prompt:
            raise ConfigError("generate: a prompt is empty; give every prompt at least one token")
        self.model, self.room = model, room
        self.device = next(model.parameters()).device
        state = model.init_state(1, len(prompt) + room)
        self._logits_BV, self._state = model.prefill(torch.tensor([prompt], device=self.device), state)

    @torch.inference_mode()
    def tokens(self, config: GenerationConfig, generator: torch.Generator | None = None) -> Iterator[int]:
        """New tokens until `eos`, which is not among them, or `max_new_tokens` of them.

        generator: of the samples, on the model's device; none given: torch's own.
        """
        if config.beam_size > 1 or config.max_new_tokens > self.room:
            raise ConfigError(f"generate: token by token there is no beam, and the state has room for {self.room} tokens")
        logits_BV = self._logits_BV
        state = reorder_state(self._state, torch.zeros(1, dtype=torch.int64, device=self.device))  # a copy: a step consumes it
        for n_left in reversed(range(config.max_new_tokens)):
            token_B = choose(logits_BV, config, generator)
            if int(token_B) == config.eos:
                return
            yield int(token_B)
            if n_left:
                logits_BV, state = self.model.step(token_B, state)
