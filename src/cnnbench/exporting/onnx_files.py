"""Read ONNX files, which may be untrusted, and run them with onnxruntime, without torch.

The metadata of a file that `cnnbench export` wrote has an entry `cnnbench`, a JSON object; `Metadata` has the keys that
predictions need.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnbench.data.files.fitting import MAX_SIDE, Resize
from cnnbench.storage.regular import Refused, read_regular, refuse_damaged
from cnnbench.storage.text import format_path

ENTRY, INPUT, OUTPUTS = "cnnbench", "images", ("logits", "probabilities")
INSTALL = "--model needs the packages onnx and onnxruntime: pip install 'cnnbench[export]'"
LARGEST = 2**31 - 1  # bytes
MOST_CLASSES = 2**20
# Operations that repeat others as often as the file demands, so that a small file could run for years.
ENDLESS = {"Loop", "Scan", "SequenceMap"}
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Byte = Annotated[int, Field(ge=0, le=255)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class InputRecord(_Part):
    """How images become the input."""

    channels: Literal[1, 3]
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    resize: Resize
    background: Annotated[list[Byte], Field(min_length=3, max_length=3)]
    polarity: Literal["light_on_dark", "dark_on_light"] | None = None


class TemperatureRecord(_Part):
    """The temperature inside the network, and the number of images on which it was fitted."""

    value: float
    images: int


class Metadata(_Part):
    """The part of a file's metadata that predictions need."""

    task: str
    input: InputRecord
    class_names: Annotated[list[str], Field(min_length=1, max_length=MOST_CLASSES)]
    temperature: TemperatureRecord | None = None


def read_onnx(path: Path) -> tuple[bytes, Metadata]:
    """The content of an ONNX file that `cnnbench export` may have written, and its metadata.

    Raises:
        ValueError: it is another or a damaged file, refers to other files, or has operations that ONNX does not define
            or that may not end; or a package is missing.
    """
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        raise ValueError(INSTALL)
    import onnx

    try:
        content = read_regular(path, LARGEST)
    except Refused as error:
        raise ValueError(f"--model {format_path(path)} cannot be read: {error}") from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the parser of protocol buffers has errors of its own
        raise ValueError(f"--model {format_path(path)} is not an ONNX file, or damaged: {error}") from None
    entries = [entry.value for entry in model.metadata_props if entry.key == ENTRY]
    if not entries:
        raise ValueError(
            f"--model {format_path(path)} was not written by cnnbench export: it does not say how images are prepared"
        )
    try:
        found = Metadata.model_validate_json(entries[-1])
    except ValidationError as error:
        first = error.errors()[0]
        refuse_damaged(path, f"its metadata: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    if found.task != "classification":
        raise ValueError(f"--model {format_path(path)} is of a {found.task} run: it has no classes to predict")
    _refuse_foreign(path, model)
    _check_interface(path, model, found)
    return content, found


def _refuse_foreign(path: Path, model: Any) -> None:
    """Refuse content that `cnnbench export` does not write."""
    if any(one.domain not in ("", "ai.onnx") for one in model.opset_import):
        refuse_damaged(path, "it has operations that ONNX does not define")
    for part in (model.graph, *model.functions):
        for message in _walk(part):
            kind = message.DESCRIPTOR.name
            if kind == "TensorProto" and (message.data_location or message.external_data):
                refuse_damaged(path, "it refers to another file")
            if kind == "NodeProto" and message.op_type in ENDLESS:
                refuse_damaged(path, f"it has the operation {message.op_type}, which may not end")


def _walk(message: Any) -> Iterator[Any]:
    """A protocol buffer and its parts, at any depth."""
    waiting = [message]
    while waiting:
        yield (one := waiting.pop())
        for field, value in one.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "DESCRIPTOR") else value  # repeated fields have none


def _check_interface(path: Path, model: Any, found: Metadata) -> None:
    names = [one.name for one in model.graph.input], tuple(one.name for one in model.graph.output)
    if names != ([INPUT], OUTPUTS):
        refuse_damaged(path, f"its input and outputs are not {INPUT}, {' and '.join(OUTPUTS)}")


def start_session(content: bytes, threads: int) -> Any:
    """An onnxruntime session for a model, on the processor.

    Raises:
        Exception: onnxruntime does not accept the model.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # its messages do not name the file
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
