"""`cnnbench evaluate`: measure a finished run on a split of any dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnbench.cli import compose
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.run_options import EvaluateOptions
from cnnbench.cli.streams import show_warnings
from cnnbench.metrics import ONE_RUN, format_metric
from cnnbench.storage.text import format_output_path, make_printable


def measure(options: EvaluateOptions) -> tuple[Path, dict[str, Any], list[str]]:
    """Measure a run on a split.

    Returns:
        The folder that holds the result, the metrics, and notes that their reader needs.
    """
    from cnnbench.experiment.measuring.evaluate import evaluate_run
    from cnnbench.experiment.measuring.measured_data import DataChoice

    choice = DataChoice(
        split=options.split,
        data=options.data,
        options=compose.compose_config([f"data={options.data}"]).data.options if options.data else {},
        path=options.path,
        root=options.root,
        exclude=options.exclude,
    )
    run = find_folder(options.run, run=True)
    how: dict[str, Any] = {"device": options.device, "batch_size": options.batch_size}
    sets = None
    notes: list[str] = []
    if options.abstain is not None:
        from cnnbench.experiment.measuring.calibration import find_prediction_sets

        if options.split == "val":
            raise ValueError("--abstain with --split val: the validation images calibrate the sets, so measure others")
        sets, notes = find_prediction_sets(run, options.abstain, choice, **how)
    folder, metrics = evaluate_run(run, choice, **how, out=options.out, calibrate=options.calibrate, sets=sets)
    return folder, metrics, list(dict.fromkeys([*notes, *metrics.pop("notes")]))  # both read the run's data


def evaluate(options: EvaluateOptions) -> None:
    """Measure a run on a split; print the metrics and the folder that holds them."""
    folder, metrics, notes = measure(options)
    del metrics["images_sha256"]  # programs find it in `metrics.json`
    show_warnings(notes)
    rest = _format_figures(metrics.pop("without_excluded", {}))
    shown = _format_figures(metrics)
    width, figures = (max(map(len, texts)) for texts in (shown, shown.values()))
    for name, text in shown.items():
        without = f"{text:<{figures}}  without the excluded: {rest[name]}" if name in rest else text
        print(f"{name:<{width}}  {without}")
    if "accuracy" in shown:
        print(f"[ ] is {ONE_RUN}.")
    print(format_output_path(folder))


def _format_figures(metrics: Mapping[str, Any]) -> dict[str, str]:
    shown = {
        name: format_metric(name, value) if isinstance(value, float) else make_printable(str(value))
        for name, value in metrics.items()
    }
    if "accuracy" in shown:
        ends = [format_metric("accuracy", metrics[end]) for end in ("accuracy_low", "accuracy_high")]
        shown["accuracy"] += f"  [{', '.join(ends)}]"
        del shown["accuracy_low"], shown["accuracy_high"]
    return shown
