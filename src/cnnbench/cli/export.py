"""`cnnbench export`: a run's network as a file for other programs."""

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.evaluate import expand_path
from cnnbench.cli.export_options import ExportOptions
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.streams import show_warnings
from cnnbench.storage.text import format_output_path


def export(options: ExportOptions) -> None:
    """Write the file, and print how it is used and how far it agrees with the run.

    Raises:
        ValueError: the command is wrong, or the network cannot be exported.
        RunFailed: the file would give other answers than the run's network.
    """
    from cnnbench.experiment.measured_data import DataChoice
    from cnnbench.exporting.checking import Disagreement
    from cnnbench.exporting.writing import export_run

    run = find_folder(options.run, run=True)
    choice = DataChoice(path=expand_path(options.path), root=expand_path(options.root))
    try:
        made = export_run(run, options.form, choice, out=options.out, force=options.force)
    except Disagreement as error:
        raise RunFailed(str(error)) from error
    show_warnings(made.notes)
    for name, text in made.facts.items():
        print(f"{name:<7} {text}")
    if made.loader:
        print(f"\n{made.loader}")
    print(format_output_path(made.path))
