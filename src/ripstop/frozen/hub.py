"""A causal language model of transformers, from a folder or the hub, over several GPUs where one does not hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError

from ripstop.config import ConfigError
from ripstop.data.base import one_line
from ripstop.frozen.base import FrozenConfig, FrozenLM

NumberFormat = Literal["float32", "bfloat16", "float16"]


class HubConfig(FrozenConfig):
    """path: a folder with a model and its tokenizer, or an id of the hub. revision: of the hub: a commit, tag or branch.

    device_map: `auto` lays the layers over all GPUs of the machine (and needs accelerate); none: all on one device. Code that
    comes with a model is never run.
    """

    kind: Literal["hub"] = "hub"
    path: str = Field(min_length=1)
    revision: str | None = None
    dtype: NumberFormat = "bfloat16"
    device_map: Literal["auto"] | None = None

    def build(self, name: str, device: torch.device | str = "cpu") -> FrozenLM:
        folder = Path(self.path).expanduser()
        local = folder.is_dir()
        if not local and (folder.is_absolute() or self.path.startswith((".", "~"))):
            raise ConfigError(f"{name}: {folder}: no such folder; correct `path`, or name a model of the hub")
        options: dict[str, Any] = {} if local else {"revision": self.revision}
        if self.device_map:
            options["device_map"] = self.device_map
        model, tokenizer = load(name, str(folder) if local else self.path, self.dtype, local_files_only=local, **options)
        commit = getattr(model.config, "_commit_hash", None)
        source = f"folder {folder.resolve().name}" if local else f"hub {self.path}@{commit}"
        return checked(name, source, model if self.device_map else model.to(device), tokenizer)


def load(name: str, path: str, dtype: NumberFormat, **options: Any) -> tuple[Any, Any]:
    """A model with its tokenizer; `ConfigError` in one sentence where there is none, or not all of it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for_tokenizer = {key: value for key, value in options.items() if key in ("revision", "local_files_only")}
    with quiet(), _told(name, path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **for_tokenizer)
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ConfigError(
            f"{name}: {path}: has no weights {missing[0]}{more}, so it is no whole causal language model; choose another"
        )
    return model, tokenizer


def checked(name: str, source: str, model: Any, tokenizer: Any) -> FrozenLM:
    """The model, frozen, once it has shown that it can be read in pieces."""
    lm = FrozenLM(name, source, model, tokenizer)
    with _told(name, source):
        lm.check()
    return lm


@contextmanager
def quiet() -> Iterator[None]:
    """transformers neither draws bars nor warns meanwhile; what is wrong is an error of ours."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _told(name: str, path: str) -> Iterator[None]:
    """What transformers says of a model that it cannot give, as one sentence."""
    try:
        yield
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError) as error:
        said = " ".join(one_line(error).split())
        raise ConfigError(
            f"{name}: {path}: cannot be used as a causal language model ({said}); choose another `path`"
        ) from error
