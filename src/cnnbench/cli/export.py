"""`cnnbench export`: a run's network as a file for other programs."""

from typing import TYPE_CHECKING

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.run_options import ExportOptions
from cnnbench.cli.streams import show_warnings
from cnnbench.storage.text import format_output_path

if TYPE_CHECKING:
    from cnnbench.exporting.writing import Exported


def write_file(options: ExportOptions) -> "Exported":
    """Write the file.

    Raises:
        ValueError: the command is wrong, or the network cannot be exported.
        RunFailed: the outputs of the file differ from those of the network.
    """
    from cnnbench.experiment.measuring.measured_data import DataChoice
    from cnnbench.exporting.checking import Disagreement
    from cnnbench.exporting.writing import export_run

    run = find_folder(options.run, run=True)
    choice = DataChoice(path=options.path, root=options.root)
    try:
        return export_run(run, options.form, choice, out=options.out, force=options.force)
    except Disagreement as error:
        raise RunFailed(str(error)) from error


def export(options: ExportOptions) -> None:
    """Write the file, and print how it is used and how far it agrees with the run."""
    made = write_file(options)
    show_warnings(made.notes)
    for name, text in made.facts.items():
        print(f"{name:<7} {text}")
    if made.loader:
        print(f"\n{made.loader}")
    print(format_output_path(made.path))
