"""Export a finished run's best weights to a file, which is checked before it appears."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cnnbench.experiment.factories import make_spec
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import Measurement, prepare_measurement
from cnnbench.exporting.checking import Agreement, check_other_sizes, check_test_split
from cnnbench.exporting.description import describe_file, describe_input, format_loader
from cnnbench.exporting.formats import FORMATS, INSTALL, convert
from cnnbench.exporting.network import PortableNetwork
from cnnbench.registry import describe_unknown
from cnnbench.storage.atomic import write_atomically
from cnnbench.storage.text import format_path

FOLDER, STEM = "exported", "model"


@dataclass(frozen=True)
class Exported:
    """A file that was exported.

    Attributes:
        facts: input, output and check, in words.
        loader: Python code that loads it; None if one call of the runtime does.
        notes: what a user of the file must know.
    """

    path: Path
    facts: dict[str, str]
    agreement: Agreement
    loader: str | None
    notes: Sequence[str]


def export_run(path: Path, form: str, choice: DataChoice, *, out: Path | None = None, force: bool = False) -> Exported:
    """Export a run's network.

    Args:
        form: one of `FORMATS`.
        choice: where the run's data are now.
        out: the file; None is one in the run's folder `exported`.
        force: replace a file that exists.

    Raises:
        ValueError: not a finished run, no test images, a network that the format cannot hold, or a target that exists
            or cannot be written; or a package is missing.
        Disagreement: the file's predictions differ from those of the run's network. It has been removed.
    """
    if form not in FORMATS:
        raise ValueError(describe_unknown("format", form, FORMATS))
    kind = FORMATS[form]
    if not all(map(find_spec, kind.packages)):
        raise ValueError(INSTALL)
    target = _choose_target(path, kind.suffix, out, force)
    ready = prepare_measurement(path, choice, device="cpu")
    trained = ready.trained
    ready.model.eval()
    temperature, notes = trained.read_temperature()
    portable = PortableNetwork(trained, temperature.value if temperature else None)
    metadata = describe_file(trained, portable, temperature)
    if out is None:
        target.parent.mkdir(exist_ok=True)
    with write_atomically(target) as file:  # the file gets its name after the check
        content = convert(form, portable, trained.config.model.name, metadata)
        file.write(content)
        answer = kind.load(content, trained, portable)
        agreement = check_test_split(ready, portable, answer, trained.info.class_names)
        if portable.resizes and kind.has_preprocessing:
            check_other_sizes(ready, portable, answer)
    facts = {
        "input": describe_input(portable, has_preprocessing=kind.has_preprocessing),
        "output": _describe_output(portable, temperature is not None, kind.has_preprocessing),
        "check": _describe_check(portable, agreement, kind.runtime),
    }
    spec = make_spec(trained.config, trained.info)
    loader = None if kind.has_preprocessing else format_loader(trained.config, spec, target)
    return Exported(target, facts, agreement, loader, [*ready.found.notes, *notes, *_note_precision(ready, agreement)])


def _choose_target(run: Path, suffix: str, out: Path | None, force: bool) -> Path:
    target = out or run / FOLDER / f"{STEM}{suffix}"
    if target.exists() and not target.is_file():
        raise ValueError(f"--out {format_path(target)}: must be a file, new or, with --force, to be replaced")
    if target.exists() and not force:
        raise ValueError(f"{format_path(target)} exists: --force replaces it, and --out FILE names another file")
    if out is not None and not target.parent.is_dir():
        raise ValueError(f"--out {format_path(target)}: its folder does not exist")
    return target


def _describe_output(portable: PortableNetwork, is_calibrated: bool, has_preprocessing: bool) -> str:
    if not portable.has_classes:
        return "reconstructions: float32, " + ("pixels scaled to 0…1" if has_preprocessing else "normalised")
    if not has_preprocessing:
        return "logits: float32 (N, K)"
    return f"logits and {'calibrated ' if is_calibrated else ''}probabilities: float32 (N, K)"


def _describe_check(portable: PortableNetwork, agreement: Agreement, runtime: str) -> str:
    images = f"{agreement.images:,} test {'signals' if portable.how is None else 'images'} in {runtime}"
    ties = f" ({agreement.ties:,} ties)" if agreement.ties else ""
    labels = f"all labels equal{ties}, " if portable.has_classes else ""
    return f"{images}: {labels}largest difference {agreement.difference:.1e}"


def _note_precision(ready: Measurement, agreement: Agreement) -> list[str]:
    precision = ready.trained.config.trainer.precision
    if precision == "fp32":
        return []
    note = f"the file computes in float32, and the run in {precision}"
    if agreement.other_labels is None:
        return [note]
    return [f"{note}: {agreement.other_labels:,} of {agreement.images:,} test images get another label"]
