"""Units and metrics: which values a measure can have. A new measure states its range by naming its unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ripstop.config import nearest

MOVES_NO_NUMBER = "it refuses values and changes none"


@dataclass(frozen=True)
class Unit:
    """What values in this unit can be: from `low` to `high`, and `whole` where it counts something."""

    low: float = 0.0
    high: float = math.inf
    whole: bool = False

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "any number"
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}" if math.isfinite(self.high) else f"{kind} from {self.low:g} on"


COUNT = Unit(whole=True)
UNITS = {
    "fraction": Unit(high=1),
    "points": Unit(high=100),
    "nats": Unit(),
    "bits": Unit(),
    "signed nats": Unit(low=-math.inf),  # a difference of two losses
    "share": Unit(low=-math.inf),  # of a way, which can be gone backwards, or beyond its end
    "ratio": Unit(),
    "seconds": Unit(),
    "tokens/s": Unit(),
    "score": Unit(low=-math.inf),  # of a learned metric, which promises no bounds
    "setting": Unit(low=-math.inf),  # a number that a configuration holds, in whatever it is there
    "bytes": COUNT,
    "elements": COUNT,
    "parameters": COUNT,
    "tokens": COUNT,
    "pairs": COUNT,
    "steps": COUNT,
    "flops": COUNT,
    "count": COUNT,
}

METRICS = {
    "accuracy": "fraction",
    "chance": "fraction",
    "loss": "nats",
    "bits_per_byte": "bits",
    "bits_per_byte_at": "bits",
    "bits_per_byte_past": "bits",
    "bits_per_byte_without_sinks_at": "bits",
    "bits_per_byte_without_sinks_past": "bits",
    "ngram_bits_per_byte": "bits",
    "ngram_train_tokens": "tokens",
    "held_out_accuracy": "fraction",
    "held_out_loss": "nats",
    "candidate_loss": "nats",
    "unigram_loss": "nats",
    "lowest_held_out_loss": "nats",
    "last_held_out_loss": "nats",
    "unstable": "count",
    "diverged": "count",
    "chosen": "setting",
    "bleu": "points",
    "chrf++": "points",
    "sample_chrf++": "points",
    "sample_bits_per_token": "bits",
    "bleu_by_length": "points",
    "chrf++_by_length": "points",
    "bleu_p_value": "fraction",
    "chrf++_p_value": "fraction",
    "comet": "score",
    "comet_by_length": "score",
    "comet_identity": "score",
    "comet_wrong": "score",
    "comet_valid": "count",
    "comet_truncated": "count",
    "comet_not_run": "count",
    "segments": "count",
    "length_ratio": "ratio",
    "entity_recall": "fraction",
    "omission_rate": "fraction",
    "omission_alarms": "fraction",
    "over_translation_rate": "fraction",
    "over_translation_alarms": "fraction",
    "context_loss": "nats",
    "cxmi_half_interval": "nats",
    "context_chrf++": "points",
    "pronoun_accuracy": "fraction",
    "always_es_accuracy": "fraction",
    "antecedent_in_window": "fraction",
    "pronouns_too_long": "count",
    "parameters": "parameters",
    "state_bytes": "bytes",
    "state_bytes_formula": "bytes",
    "stored_state_bytes": "bytes",
    "state_bits_per_element": "bits",
    "stored_accuracy": "fraction",
    "stored_bits_per_byte": "bits",
    "forward_accuracy": "fraction",
    "bytes_read": "bytes",
    "bytes_read_formula": "bytes",
    "bytes_written": "bytes",
    "tokens_read": "tokens",
    "step_seconds": "seconds",
    "reference_step_seconds": "seconds",
    "prompt_seconds": "seconds",
    "reference_prompt_seconds": "seconds",
    "prompt_peak_bytes": "bytes",
    "first_token_seconds": "seconds",
    "reference_first_token_seconds": "seconds",
    "inter_token_seconds": "seconds",
    "reference_inter_token_seconds": "seconds",
    "translation_tokens_per_second": "tokens/s",
    "reference_translation_tokens_per_second": "tokens/s",
    "translation_peak_bytes": "bytes",
    "weight_bytes": "bytes",
    "accuracy_at_depth": "fraction",
    "selection_recall": "fraction",
    "selection_recall_at_depth": "fraction",
    "selection_floor": "fraction",
    "selection_floor_at_depth": "fraction",
    "selected_share": "fraction",
    "gate": "fraction",
    "trained_length": "tokens",
    "peak_bytes": "bytes",
    "prefill_seconds": "seconds",
    "answer_nll": "nats",
    "first_accuracy": "fraction",
    "forced_match": "fraction",
    "exact_match": "fraction",
    "f1": "fraction",
    "swap_followed": "fraction",
    "loss_gain": "signed nats",
    "gap_closed": "share",
    "context_bytes": "bytes",
    "coded_bytes": "bytes",
    "alignment_gap": "nats",
    "compress_seconds": "seconds",
    "answer_seconds": "seconds",
    "trained_parameters": "parameters",
    "probe_auc": "fraction",
    "wire_directions": "count",
}
"""The one unit of a metric that several rooms know by name. Others are free to be added: their unit says what they can be."""


def refusal(metric: str, unit: str, value: float) -> str:
    """What is wrong with a value, in half a sentence; nothing where it can be."""
    if unit not in UNITS:
        return f"{metric} has the unknown unit {unit!r}{nearest(unit, list(UNITS))}"
    wanted = METRICS.get(metric, unit)
    if unit != wanted:
        return f"{metric} is given in {unit}, but is measured in {wanted}"
    kind = UNITS[unit]
    inside = math.isfinite(value) and kind.low <= value <= kind.high and (not kind.whole or value == round(value))
    return "" if inside else f"{metric} is {value!r} {unit}, which has to be {kind}"
