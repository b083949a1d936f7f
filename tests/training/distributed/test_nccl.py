"""On a GPU: what several processes do, by one of them, whose collectives are nccl's."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training.distributed.processes import SharedStream
from training.tiny import TinyModel

from ripstop.training.distributed import checkpoint_folder
from ripstop.training.distributed.ranks import Ranks, connect
from ripstop.training.distributed.strategy import Replicated, Sharded, Whole
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.optimizers.muon import MuonConfig

pytestmark = pytest.mark.gpu


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for name, value in (told | {"TORCHELASTIC_USE_AGENT_STORE": "True"}).items():
        monkeypatch.setitem(os.environ, name, value)
    connect(Ranks(), "cuda", 60)
    yield Ranks()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_an_update_and_a_checkpoint_on_a_gpu(connected: Ranks, strategy: str, tmp_path: Path) -> None:
    device = torch.device("cuda", 0)
    plain = TinyModel(25, dropout=0.0).to(device)
    shared = copy.deepcopy(plain)
    kind = {
        "ddp": lambda: Replicated(shared, cross_entropy, False),
        "fsdp": lambda: Sharded(shared, cross_entropy, connected, device),
    }
    states = []
    for laid in (Whole(plain, cross_entropy), kind[strategy]()):
        optimizer = MuonConfig().build(laid.model)
        stream = SharedStream()
        for _ in range(3):
            optimizer.zero_grad()
            for last in (False, True):
                with laid.gradients(last):
                    loss = laid.loss(next(stream).to(device))
                    (loss.sum / loss.n).backward()
            laid.clip(0.5)
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()
        states.append({name: value.cpu() for name, value in laid.whole_state().items()})
    for name in states[0]:
        torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-4, atol=1e-5, msg=name)
    content = {
        "identity": {},
        "settings": {},
        "step": 3,
        "state": {"model": shared.trained_state(), "optimizer": optimizer.state_dict()},
    }
    digest = checkpoint_folder.write(tmp_path / "made", content, connected)
    path = (tmp_path / "made").rename(tmp_path / f"step-00000003-{digest[:16]}")
    found = checkpoint_folder.read(path)
    assert found is not None
    whole = checkpoint_folder.filled(found, path, None, connected)["state"]["model"]
    assert all(torch.equal(whole[name], states[1][name]) for name in states[1])
    laid_out = checkpoint_folder.filled(found, path, laid.layout(optimizer), connected)["state"]
    shared.load_trained(laid_out["model"])
    optimizer.load_state_dict(laid_out["optimizer"])
