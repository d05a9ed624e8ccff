import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cnnbench.training import checkpoint


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, 0.001, momentum=0.9),
    lambda p: torch.optim.Adam(p, 0.001, fused=True),
    lambda p: torch.optim.AdamW(p, 0.001),
]


def train(model, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_to_the_bit(make, channels_last, tmp_path):
    models = [network() for _ in range(2)]
    if channels_last:
        models = [model.to(memory_format=torch.channels_last) for model in models]
    optimizers = [make(model.parameters()) for model in models]
    train(models[0], optimizers[0], 3)
    tensors = {**checkpoint.model_tensors(models[0]), **checkpoint.optimizer_tensors(optimizers[0], models[0])}
    checkpoint.save(tmp_path, "last", tensors=tensors, record={"epoch": 3})
    loaded, record = checkpoint.load(tmp_path, "last")
    assert record["epoch"] == 3
    checkpoint.load_model(models[1], loaded)
    checkpoint.load_optimizer(optimizers[1], models[1], loaded)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 3)
    for (name, left), right in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert left.isfinite().all(), name
        assert torch.equal(left, right), name


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    checkpoint.save(folder, "best", tensors=checkpoint.model_tensors(network()), record={"epoch": 1})
    return folder


@given(st.data())
def test_a_flipped_bit_or_a_cut_is_noticed(saved, data):
    path = saved / "best.safetensors"
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged = bytearray(content)
        damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        damaged = content[:position]
    try:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"best.safetensors is damaged: its SHA-256"):
            checkpoint.load(saved, "best")
    finally:
        path.write_bytes(content)


def test_what_is_missing_or_not_json_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint 'best' in .*No such file"):
        checkpoint.load(tmp_path, "best")
    checkpoint.save(tmp_path, "best", tensors={}, record={})
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(ValueError, match=r"best.json is damaged"):
        checkpoint.load(tmp_path, "best")
    (tmp_path / "best.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is damaged"):
        checkpoint.load(tmp_path, "best")


def test_a_file_that_is_no_safetensors_is_refused_even_with_its_hash(tmp_path):
    import hashlib

    (tmp_path / "best.safetensors").write_bytes(b"\x80\x04evil")
    record = {"sha256": hashlib.sha256(b"\x80\x04evil").hexdigest()}
    (tmp_path / "best.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"best.safetensors is damaged"):
        checkpoint.load(tmp_path, "best")


def test_weights_of_another_model_are_refused():
    tensors = checkpoint.model_tensors(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="'weight' is \\(3, 2\\) in it, \\(4, 2\\) in the model"):
        checkpoint.load_model(nn.Linear(2, 4), {**tensors, "model.bias": torch.zeros(4)})
    with pytest.raises(ValueError, match="'bias' is in only one of them"):
        checkpoint.load_model(nn.Linear(2, 3, bias=False), tensors)
    with pytest.raises(ValueError, match="names 'other', which the model does not have"):
        checkpoint.load_optimizer(
            torch.optim.Adam(nn.Linear(2, 3).parameters()), nn.Linear(2, 3), {"optimizer.other.step": torch.zeros(())}
        )
