"""Claims and numbers by hand."""

from __future__ import annotations

from ripstop.claims.registry import Claim
from ripstop.statistics import Estimate

SCALES = ["smoke", "cpu", "h100"]
RECALL, CAPACITY, LOSS = "mqar_cliff.recall_hybrid_max_pairs", "mqar_cliff.capacity_mamba2", "hybrid_ratio.loss_mamba2"


def estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 3)


NUMBERS = {"mqar_cliff": {"recall_hybrid_max_pairs": estimate(0.6, 0.8), "capacity_mamba2": estimate(10, 20)}}
OTHERS = {"hybrid_ratio": {"loss_mamba2": Estimate(4.0, 3.5, 4.5, 2, "nats"), "ratio_spread": Estimate(1, 0.5, 1.5, 2, "nats")}}


def claim(
    name: str,
    measure: str = RECALL,
    scales: tuple[str, ...] = ("cpu",),
    role: str = "claim",
    needs: tuple[str, ...] = (),
    **criterion: float,
) -> Claim:
    values = {"id": name, "role": role, "statement": f"{name} & 100 % of it", "origin": "hypothesis", "needs": list(needs)}
    return Claim.parse({**values, "measure": measure, "criterion": criterion or {"above": 0.5}, "scales": list(scales)}, name)
