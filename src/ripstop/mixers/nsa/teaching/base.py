"""What every way of teaching the selection offers: the output of the selected branch, and a loss of its own.

The choice of the n best blocks passes no gradient: as it stands, the compressed branch learns to attend for its own output's
sake, and what it selects follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ripstop.config import Strict
from ripstop.kernels import attention, sparse_attention
from ripstop.ops.segments import Segments
from ripstop.ops.sparse_attention import Blocks, Documents


@dataclass(frozen=True)
class Selection:
    """The selected branch of one forward, prefill or step: queries, keys and values, and what was selected.

    q (B, T, H, K), k and v (B, S, G, K); compressed: queries, keys and values of the compressed branch; ids, importance:
    (B, T, G, n), from `kernels.sparse_attention.compress_and_select`.
    """

    backend: str
    q: Tensor
    k: Tensor
    v: Tensor
    compressed: tuple[Tensor, Tensor, Tensor]
    ids: Tensor
    importance: Tensor
    blocks: Blocks
    n_past: int
    segments: Segments | None

    def sparse(self, weights_BTGn: Tensor | None = None) -> Tensor:
        """Attention over the selected blocks, (B, T, H, K)."""
        return sparse_attention.selected_attention(
            self.backend, self.q, self.k, self.v, self.ids, self.blocks.select_block, self.documents, weights_BTGn
        )

    def full(self) -> Tensor:
        """Attention over everything, (B, T, H, K)."""
        return attention.attention(sparse_attention.beside(self.backend), self.q, self.k, self.v, True, self.segments)

    def importance_of_all(self) -> tuple[Tensor, Tensor]:
        """Numbers, -1 where there are no more, and importance of all blocks of each query's document, (B, T, G, M)."""
        every = self.blocks._replace(n_selected=self.blocks.n_selectable(self.n_past + self.q.shape[1]), n_first=0)
        _, ids, importance = sparse_attention.compress_and_select(
            self.backend, *self.compressed, every, self.n_past, self.documents
        )  # fmt: skip
        return ids, importance

    @property
    def documents(self) -> Documents | None:
        return Documents.of(self.segments)


class TeachingConfig(Strict):
    """Subclasses add `kind: Literal[...]` and implement `attend`."""

    kind: str

    def attend(self, selection: Selection, training: bool) -> tuple[Tensor, Tensor | None]:
        """Output of the selected branch, and what is to be added to the objective, a scalar, where there is something.

        training: whether the mixer is in training mode; a way that changes outputs only then is no part of the model.
        """
        raise NotImplementedError(f"{type(self).__name__}: a way of teaching has to define attend(self, selection, training)")
