"""`cnnbench explain`: draw what a finished run's network sees, on one page."""

from cnnbench.cli.inputs import find_images
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.run_options import ExplainOptions
from cnnbench.cli.streams import show_warnings
from cnnbench.registry import check_choice
from cnnbench.runs.folder import refuse_other_content, refuse_unwritable
from cnnbench.storage.text import format_output_path, format_path


def explain(options: ExplainOptions) -> None:
    """Write the pictures and the page; print the page's path.

    Raises:
        ValueError: the command is wrong, the run cannot be explained, or the folder cannot be written.
    """
    from cnnbench.experiment.measuring.explain import explain_run
    from cnnbench.experiment.measuring.measured_data import DataChoice
    from cnnbench.report.documents import LANGUAGES
    from cnnbench.report.explanation import PAGE, write_explanation

    check_choice("language", options.language, LANGUAGES)
    run = find_folder(options.run, run=True)
    out = options.out or run / "evaluations" / "explanation"
    refuse_other_content(out, PAGE)
    problems: list[str] = []
    files = (
        [*find_images(options.images, null=False, complain=lambda file, why: problems.append(f"{file}: {why}"))]
        if options.images
        else []
    )
    found = explain_run(
        run,
        files=files,
        test=options.test,
        choice=DataChoice(path=options.path, root=options.root),
        device=options.device,
        batch_size=options.batch_size,
    )
    show_warnings([*problems, *found.notes])
    with refuse_unwritable(out):
        write_explanation(out, found, options.language, f"{found.data} · {format_path(shorten(run.resolve()))}")
    print(format_output_path(out / PAGE))
