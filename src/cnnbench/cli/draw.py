"""`cnnbench draw`: write a page on which a finished run's network classifies drawings."""

from pathlib import Path

from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.run_options import DrawOptions
from cnnbench.cli.streams import show_warnings
from cnnbench.registry import check_choice
from cnnbench.runs.folder import refuse_unwritable
from cnnbench.storage.atomic import write_text
from cnnbench.storage.text import format_output_path, format_path


def draw(options: DrawOptions) -> None:
    """Write the page and print its path.

    Raises:
        ValueError: the command is wrong, the network cannot be compiled, or the page cannot be written.
    """
    from cnnbench.draw.page import GENERATOR, PAGE, render_page
    from cnnbench.experiment.measuring.measured_data import DataChoice
    from cnnbench.experiment.measuring.trained import load_trained
    from cnnbench.report.documents import LANGUAGES

    check_choice("language", options.language, LANGUAGES)
    run = find_folder(options.run, run=True)
    out = options.out or run / PAGE
    trained = load_trained(run)
    _refuse_other_file(out, GENERATOR)
    choice = DataChoice(path=options.path, root=options.root)
    page, notes = render_page(trained, options.language, choice, format_path(shorten(Path(run).resolve())))
    show_warnings(notes)
    with refuse_unwritable(out, "--out FILE names another file"):
        write_text(out, page)
    print(format_output_path(out))


def _refuse_other_file(out: Path, generator: str) -> None:
    """Check that the page may be written to a file: it is new, or an earlier page."""
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out {format_path(out)}: must be a file, new or an earlier page, in an existing folder")
    if not out.exists():
        return
    try:
        with out.open("rb") as file:
            # The head of the page names its generator; the rest holds megabytes of weights.
            is_page = f'name="generator" content="{generator} '.encode() in file.read(2000)
    except OSError as error:
        raise ValueError(f"{format_path(out)} cannot be read ({error.strerror})") from None
    if not is_page:
        raise ValueError(f"--out {format_path(out)} holds something else: must be a new file or an earlier page")
