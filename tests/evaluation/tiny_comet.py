"""A COMET checkpoint of the real class with a random encoder of 2 layers: `python tiny_comet.py FOLDER [reversed]`.

Its estimator is set by hand to 1 - tanh(sum |translation - reference|), so that identity scores highest; `reversed` scores it
lowest. Run by the interpreter of envs/comet.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml
from comet.models import RegressionMetric
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import XLMRobertaConfig, XLMRobertaTokenizerFast

WIDTH = 16
MOST_TOKENS = 30
"""Of a text, with the two signs around it: positions 0 and 1 are not used, and COMET leaves out two more."""
TEXT = ["In the beginning God created the heavens and the earth", "Im Anfang schuf Gott die Himmel und die Erde"]


def encoder(folder: Path) -> None:
    """Tokenizer and configuration, as `pretrained_model` names them."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=MOST_TOKENS + 4,
    )
    config.save_pretrained(folder)


def main(folder: Path, sign: float) -> None:
    encoder(folder / "encoder")
    torch.manual_seed(0)
    settings = {"pretrained_model": str(folder / "encoder"), "hidden_sizes": [1], "activations": "Tanh", "dropout": 0.0}
    metric = RegressionMetric(load_pretrained_weights=False, local_files_only=True, **settings)
    first, last = (layer for layer in metric.estimator.ff if isinstance(layer, torch.nn.Linear))
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 3 * WIDTH : 4 * WIDTH] = 0.1  # |translation - reference|
        first.bias.zero_()
        last.weight.fill_(-sign)
        last.bias.fill_(1.0)
    (folder / "checkpoints").mkdir()
    content = {"state_dict": metric.state_dict(), "hyper_parameters": dict(metric.hparams)}
    torch.save(content | {"pytorch-lightning_version": "2.0.0"}, folder / "checkpoints/model.ckpt")
    with (folder / "hparams.yaml").open("w") as file:
        yaml.safe_dump({**settings, "class_identifier": "regression_metric"}, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), -1.0 if "reversed" in sys.argv else 1.0)
