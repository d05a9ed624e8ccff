"""The metadata of an exported file, the same in every format: plain data under one key."""

from pathlib import Path
from typing import Any

import torch

import cnnbench
from cnnbench.config.declared import select
from cnnbench.config.schema import Config, to_dict
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.exporting.network import PortableNetwork
from cnnbench.exporting.onnx_files import INPUT
from cnnbench.models import NetworkSpec
from cnnbench.runs.calibration import Temperature, read_weights_hash
from cnnbench.training.tasks import get_task

PATHS = ("path", "test_path", "exclude", "weights")


def describe_file(trained: Trained, portable: PortableNetwork, temperature: Temperature | None) -> dict[str, Any]:
    """The metadata of a file; `Metadata` in `onnx_files` lists the keys that predictions need."""
    kept = temperature and {"value": temperature.value, "images": temperature.images}
    return {
        "task": get_task(portable.network).name,
        "input": _record_input(trained, portable),
        "normalisation": {"mean": trained.mean, "std": trained.std},
        "outputs": portable.outputs,
        "class_names": trained.info.class_names,
        "temperature": kept,
        "precision": {"file": "fp32", "run": trained.config.trainer.precision},
        "run": {
            "weights_sha256": read_weights_hash(trained.folder.path),
            "config": _select_config(trained.config),
        },
        "versions": {"cnnbench": cnnbench.__version__, "torch": torch.__version__},
    }


def _select_config(config: Config) -> dict[str, Any]:
    """The keys that change the result, without paths, which describe a machine and not the network."""
    kept = select(to_dict(config), lambda role, _: role == "result")
    return {
        section: {key: value for key, value in values.items() if key not in PATHS}
        if isinstance(values, dict)
        else values
        for section, values in kept.items()
    }


def _record_input(trained: Trained, portable: PortableNetwork) -> dict[str, Any]:
    channels, *size = trained.info.input_shape
    if portable.how is None:
        return {"type": "float32", "layout": "NCL", "channels": channels, "size": size}
    return {
        "type": "uint8",
        "layout": "NCHW",
        "channels": channels,
        "colours": "greyscale" if channels == 1 else "RGB",
        "size": size,
        "any_size": portable.resizes,
        "resize": portable.how.resize,
        "background": portable.how.background,
        "polarity": trained.polarity,
    }


def describe_input(portable: PortableNetwork, *, has_preprocessing: bool = True) -> str:
    """What the network of a file takes, in words."""
    channels, *sides = portable.input_shape
    if not has_preprocessing:
        return f"float32 (N, {', '.join(map(str, portable.input_shape))}), normalised: this file holds weights alone"
    if portable.how is None:
        return f"{INPUT}: float32 (N, {channels}, {sides[0]}), signals as in the data"
    if portable.resizes:
        size = "×".join(map(str, sides))
        how = f"resized to {size} as in the run ({portable.how.resize})"
        return f"{INPUT}: uint8 (N, {channels}, H, W) of any size, {how}"
    return f"{INPUT}: uint8 (N, {channels}, {sides[0]}, {sides[1]}), of this size only"


def format_loader(config: Config, spec: NetworkSpec, file: Path) -> str:
    """Five lines of Python that load a file of weights."""
    model = config.model
    arguments = ", ".join(f"{name}={value!r}" for name, value in vars(spec).items())
    options = f", options={model.options!r}" if model.options else ""
    return (
        "from safetensors.torch import load_file\n"
        "from cnnbench.models import NetworkSpec, build_model\n"
        f"network = build_model({model.name!r}, NetworkSpec({arguments}){options})\n"
        f"network.load_state_dict(load_file({str(file)!r}))\n"
        "network.eval()  # takes images (pixels / 255 - mean) / std\n"
    )
