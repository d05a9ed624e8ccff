"""`cnnbench explain`: draw what a finished run's network sees, on one page."""

from pathlib import Path

from cnnbench.cli.evaluate import expand_path
from cnnbench.cli.inputs import find_images
from cnnbench.cli.options import ExplainOptions
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.streams import show_warnings
from cnnbench.registry import describe_unknown
from cnnbench.runs.folder import refuse_other_content
from cnnbench.storage.text import format_output_path, format_path


def explain(options: ExplainOptions) -> None:
    """Write the pictures and the page; print the page's path.

    Raises:
        ValueError: the command is wrong, the run cannot be explained, or the folder cannot be written.
    """
    from cnnbench.experiment.explain import explain_run
    from cnnbench.experiment.measured_data import DataChoice
    from cnnbench.report.documents import LANGUAGES
    from cnnbench.report.explanation import PAGE, write_explanation

    if options.language not in LANGUAGES:
        raise ValueError(describe_unknown("language", options.language, LANGUAGES))
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
        choice=DataChoice(path=expand_path(options.path), root=expand_path(options.root)),
        device=options.device,
        batch_size=options.batch_size,
    )
    show_warnings([*problems, *found.notes])
    try:
        write_explanation(out, found, options.language, f"{found.data} · {format_path(shorten(Path(run).resolve()))}")
    except OSError as error:
        raise ValueError(
            f"{format_path(out)} cannot be written ({error.strerror}): --out DIR names another folder for the result"
        ) from None
    print(format_output_path(out / PAGE))
