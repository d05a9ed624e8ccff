"""The formats that a network is exported to: how a file of each is written, and read by its own runtime."""

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from cnnbench.experiment.factories import make_model
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.exporting.network import PortableNetwork
from cnnbench.exporting.onnx_files import ENTRY, INPUT, start_session
from cnnbench.storage.text import make_printable

Answer = Callable[[np.ndarray], tuple[np.ndarray, ...]]  # images or signals to what `PortableNetwork.outputs` names
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INSTALL = "--format onnx needs the packages onnx, onnxruntime and onnxscript: pip install 'cnnbench[export]'"
LARGEST_ONNX = 2**31 - 1  # bytes of a file of protocol buffers


class NotExportable(ValueError):
    """A network that a format cannot hold.

    Attributes:
        reason: the exporter's, on one line.
    """

    def __init__(self, model: str, form: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"model={model} cannot be exported with --format {form}: {reason}")


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        suffix: of its files.
        runtime: what computes the network of a file in the check.
        convert: makes the content of a file from a network and its metadata, which are JSON values.
        load: makes a function that predicts from the content of a file.
        packages: what it needs besides cnnbench's own requirements.
        has_preprocessing: whether a file takes images as they are in files; otherwise it holds weights alone.
    """

    suffix: str
    runtime: str
    convert: Callable[[PortableNetwork, Mapping[str, Any]], bytes]
    load: Callable[[bytes, Trained, PortableNetwork], Answer]
    packages: tuple[str, ...] = ()
    has_preprocessing: bool = True


def _convert_to_onnx(portable: PortableNetwork, metadata: Mapping[str, Any]) -> bytes:
    outputs = [*portable.outputs]
    program = torch.onnx.export(portable.trace(), (), input_names=[INPUT], output_names=outputs, verbose=False)
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = ENTRY, json.dumps(metadata)
    return bytes(model.SerializeToString())


def _load_onnx(content: bytes, trained: Trained, portable: PortableNetwork) -> Answer:
    session = start_session(content, torch.get_num_threads())
    return lambda values: tuple(session.run(None, {INPUT: values}))


def _convert_to_exported(portable: PortableNetwork, metadata: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.export.save(portable.trace(), content, extra_files={ENTRY: json.dumps(metadata)})
    return content.getvalue()


def _load_exported(content: bytes, trained: Trained, portable: PortableNetwork) -> Answer:
    return _answer_with(torch.export.load(io.BytesIO(content)).module())


def _convert_to_state_dict(portable: PortableNetwork, metadata: Mapping[str, Any]) -> bytes:
    # Two names of one tensor are two tensors in the file.
    tensors = {name: value.clone() for name, value in portable.network.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={ENTRY: json.dumps(metadata)})


def _load_state_dict(content: bytes, trained: Trained, portable: PortableNetwork) -> Answer:
    network = make_model(trained.config, trained.info)
    network.load_state_dict(safetensors.torch.load(content))
    loaded = copy.copy(portable)  # for the preprocessing, which this file does not contain
    loaded._modules = {**portable._modules, "network": network.eval()}
    return _answer_with(loaded)


def _answer_with(module: nn.Module) -> Answer:
    @torch.no_grad()
    def answer(values: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(output.numpy() for output in module(torch.from_numpy(values)))

    return answer


FORMATS = {
    "onnx": Format(".onnx", "onnxruntime", _convert_to_onnx, _load_onnx, PACKAGES),
    "exported": Format(".pt2", "torch.export", _convert_to_exported, _load_exported),
    "state_dict": Format(".safetensors", "torch", _convert_to_state_dict, _load_state_dict, has_preprocessing=False),
}


def convert(name: str, portable: PortableNetwork, model: str, metadata: Mapping[str, Any]) -> bytes:
    """The content of a file.

    Args:
        name: of the format.
        model: the name of the network in its config.

    Raises:
        NotExportable: the network computes something that the format does not have, or is too large for it.
    """
    try:
        with _keep_quiet():
            content = FORMATS[name].convert(portable, metadata)
    except Exception as error:  # the exporters raise anything
        raise NotExportable(model, name, _find_reason(error)) from error
    if name == "onnx" and len(content) > LARGEST_ONNX:
        raise NotExportable(model, name, f"the file would have {len(content):,} bytes, and 2 GB is the limit")
    return content


def _find_reason(error: BaseException) -> str:
    """The first line of the innermost error, which names the operation."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return make_printable(lines[0].strip()) if lines else type(error).__name__


@contextmanager
def _keep_quiet() -> Iterator[None]:
    """Silence the exporters, whose warnings, logs and prints are for programmers."""
    before = logging.root.manager.disable
    nowhere = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
