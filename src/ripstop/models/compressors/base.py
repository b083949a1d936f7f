"""What every compressor offers: from what it reads of documents to the M vectors of a wire each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ripstop.config import Strict

Reads = Literal["features", "bytes", "nothing"]
FAST = 10.0
"""Biases, gains and scores by position are read ten times as large as they are held. Adam moves every number by about the
learning rate whatever its gradient, so they move ten times as fast as matrices, which a few hundred updates ask for."""


@dataclass(frozen=True)
class WireShape:
    """n_vectors: M. width: d_z. d_features: width of what is read, D; None where no frozen model's features are."""

    n_vectors: int
    width: int
    d_features: int | None = None


@dataclass(frozen=True)
class Reading:
    """What there is of B documents, padded at the end. Which of the tensors are there, the configuration's `reads` says.

    mask_BS: bool, where there is something; at least one of every document.
    tokens_BSD: embeddings of the tokens, in units of the RMS of their table.
    hidden_BSD: hidden states at the tokens, every channel in units of its own standard deviation.
    ids_BS: the tokens, or the bytes; int64, 0 at padding, which mask_BS tells apart.
    """

    mask_BS: Tensor
    ids_BS: Tensor
    tokens_BSD: Tensor | None = None
    hidden_BSD: Tensor | None = None

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """Embeddings and hidden states, of one who reads features."""
        assert self.tokens_BSD is not None and self.hidden_BSD is not None, "a compressor that reads features was given none"
        return self.tokens_BSD, self.hidden_BSD


class Compressor(nn.Module):
    """From a reading to a wire whose numbers are about 1 in size (RMS), from the first draw on."""

    def forward(self, reading: Reading) -> Tensor:
        """(B, M, d_z). A document's wire depends on nothing of the others, nor on padding."""
        _missing(self, "forward(self, reading)")

    def start(self, mean_D: Tensor, directions_DZ: Tensor) -> None:
        """Replace drawn weights by what is known of the features; called once, under `torch.no_grad`, where there are any.

        mean_D: of the table of embeddings. directions_DZ: its principal directions, see `latent_basis.LatentBasis`.
        """


class CompressorConfig(Strict):
    """A compressor. Subclasses add `kind: Literal[...]`, settings, and what raises here."""

    kind: str
    reads: ClassVar[Reads] = "features"

    def check(self, shape: WireShape) -> None:
        """`ConfigError` where it cannot make such a wire."""

    def build(self, shape: WireShape) -> Compressor:
        """The compressor, freshly drawn."""
        _missing(self, "build(self, shape)")

    def num_params(self, shape: WireShape) -> int:
        """Parameters of the built compressor."""
        return n_parameters(lambda: self.build(shape))

    def flops(self, shape: WireShape, n_tokens: int) -> int:
        """Forward FLOPs for one document of `n_tokens` (or bytes), matrix products alone; multiply-adds count as 2."""
        _missing(self, "flops(self, shape, n_tokens)")


def n_parameters(build: Callable[[], nn.Module]) -> int:
    """Of what is built, counted on one that holds no numbers."""
    with _Undrawn(), torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


class _Undrawn(TorchFunctionMode):
    """No normal numbers are drawn: on the meta device that would import torch's symbolic shapes first, which takes seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


def drawn(*shape: int, std: float) -> nn.Parameter:
    """Normal numbers."""
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=std))


def unit_rms(x_BMD: Tensor, eps: float = 1e-8) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis, at least float32; a vector of zeros stays one."""
    x_BMD = x_BMD.to(torch.promote_types(x_BMD.dtype, torch.float32))
    return x_BMD * (x_BMD.square().mean(-1, keepdim=True) + eps).rsqrt()


def segments(mask_BS: Tensor, n_vectors: int) -> Tensor:
    """Bool (B, M, S): which of M consecutive, equally long pieces of its document a token lies in.

    Of a document with fewer tokens than M the first pieces have one each, and the others none.
    """
    n_B1 = mask_BS.sum(1, keepdim=True).clamp(min=n_vectors)
    piece_BS = (mask_BS.cumsum(1) - 1) * n_vectors // n_B1
    return (piece_BS.unsqueeze(1) == torch.arange(n_vectors, device=mask_BS.device)[:, None]) & mask_BS.unsqueeze(1)


def zero_last(*layers: nn.Module) -> nn.Sequential:
    """`layers` in a row, of which the last, a linear one, starts at zero: it adds nothing until it has learnt to."""
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers)


def start_projection(project: nn.Linear, mean_D: Tensor, directions_DZ: Tensor) -> None:
    """Under `torch.no_grad`: z = directions^T (e - mean)."""
    project.weight.copy_(directions_DZ.T)
    project.bias.copy_(-(mean_D @ directions_DZ))


def _missing(owner: Compressor | CompressorConfig, method: str) -> NoReturn:
    what = "compressor" if isinstance(owner, Compressor) else "configuration of a compressor"
    raise NotImplementedError(f"{type(owner).__name__}: a {what} has to define {method}")
