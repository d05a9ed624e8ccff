import errno
import hashlib
import logging
import os

import pytest
import safetensors.torch
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
    tensors = {
        **checkpoint.collect_model_tensors(models[0]),
        **checkpoint.collect_optimizer_tensors(optimizers[0], models[0]),
    }
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
    checkpoint.save(folder, "best", tensors=checkpoint.collect_model_tensors(network()), record={"epoch": 1})
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


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint 'best' in .*No such file"):
        checkpoint.load(tmp_path, "best")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04evil", b"\xff" * 100, safetensors.torch.save({"a": torch.zeros(1)})]
)
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / "best.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"best.safetensors is damaged"):
        checkpoint.load(tmp_path, "best")


def test_tensors_that_are_none_are_refused_even_with_their_hash(tmp_path):
    checkpoint.save(tmp_path, "best", tensors={"model.weight": torch.zeros(4)}, record={})
    path = tmp_path / "best.safetensors"
    content = path.read_bytes().replace(b"[0,16]", b"[0,99]")
    start = content.index(b'sha256\\": \\"') + len(b'sha256\\": \\"')
    zeroed = content[:start] + b"0" * 64 + content[start + 64 :]
    digest = hashlib.sha256(zeroed).hexdigest().encode()
    path.write_bytes(content[:start] + digest + content[start + 64 :])
    with pytest.raises(ValueError, match=r"best.safetensors is damaged: .*"):
        checkpoint.load(tmp_path, "best")


def test_a_record_comes_back_as_it_was_also_with_what_looks_like_its_hash(tmp_path):
    record = {"sha256": "0" * 64, "epoch": 3, "text": "0" * 64, "number": 0.1 + 0.2, "infinite": float("inf")}
    tensors = {"0" * 64: torch.arange(3), "model.half": torch.ones(2, dtype=torch.bfloat16)}
    checkpoint.save(tmp_path, "last", tensors=tensors, record=record)
    loaded, found = checkpoint.load(tmp_path, "last")
    del record["sha256"]
    assert found == record
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)


def test_the_previous_checkpoint_takes_the_place_of_a_damaged_last_one_loudly(tmp_path, caplog):
    assert checkpoint.load_newest(tmp_path) is None
    for epoch in (1, 2):
        checkpoint.keep_previous(tmp_path)
        checkpoint.save(tmp_path, "last", tensors={"model.a": torch.full((2,), float(epoch))}, record={"epoch": epoch})
    assert checkpoint.load_newest(tmp_path)[1]["epoch"] == 2
    (tmp_path / "last.safetensors").write_bytes(b"damaged")
    with caplog.at_level(logging.ERROR, "cnnbench"):
        assert checkpoint.load_newest(tmp_path)[1]["epoch"] == 1
    assert "DAMAGED CHECKPOINT" in caplog.text
    assert "last.safetensors" in caplog.text
    assert checkpoint.load(tmp_path, "last")[1]["epoch"] == 1
    (tmp_path / "last.safetensors").write_bytes(b"damaged")
    (tmp_path / "previous.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint can be read: .*last.*previous"):
        checkpoint.load_newest(tmp_path)


def test_where_there_are_no_hard_links_the_last_checkpoint_becomes_the_previous_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    for epoch in (1, 2, 3):
        checkpoint.keep_previous(tmp_path)
        checkpoint.save(tmp_path, "last", tensors={}, record={"epoch": epoch})
        checkpoint.keep_epoch(tmp_path, epoch, keep=2)
    names = {path.stem: checkpoint.load(tmp_path, path.stem)[1]["epoch"] for path in tmp_path.iterdir()}
    assert names == {"last": 3, "previous": 2, "epoch_0002": 2, "epoch_0003": 3}


def test_the_latest_epochs_are_kept_however_many_digits_they_have(tmp_path):
    (tmp_path / "epoch_mine.safetensors").write_text("somebody's")
    for epoch in range(9998, 10003):
        checkpoint.save(tmp_path, "last", tensors={}, record={"epoch": epoch})
        checkpoint.keep_epoch(tmp_path, epoch, keep=2)
    assert {path.stem for path in tmp_path.iterdir()} == {"last", "epoch_10001", "epoch_10002", "epoch_mine"}


def test_a_compiled_models_names_are_those_of_the_plain_one():
    model = network()
    wrapped = nn.ModuleDict({"module": nn.ModuleDict({"_orig_mod": model})})
    assert checkpoint.collect_model_tensors(wrapped).keys() == checkpoint.collect_model_tensors(model).keys()
    other = network()
    checkpoint.load_model(nn.ModuleDict({"_orig_mod": other}), checkpoint.collect_model_tensors(wrapped))
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))


def test_weights_of_another_model_are_refused():
    tensors = checkpoint.collect_model_tensors(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"'weight' has shape \(3, 2\), and \(4, 2\) in the model"):
        checkpoint.load_model(nn.Linear(2, 4), {**tensors, "model.bias": torch.zeros(4)})
    with pytest.raises(ValueError, match="'bias' is in only one of them"):
        checkpoint.load_model(nn.Linear(2, 3, bias=False), tensors)
    with pytest.raises(ValueError, match="names 'other', which the model does not have"):
        checkpoint.load_optimizer(
            torch.optim.Adam(nn.Linear(2, 3).parameters()), nn.Linear(2, 3), {"optimizer.other.step": torch.zeros(())}
        )
