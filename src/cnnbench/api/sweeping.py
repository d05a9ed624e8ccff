"""Train several runs, or open a sweep: its runs and their comparison."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.api.arguments import check_folder, check_new_folder
from cnnbench.api.errors import Error, translate_errors
from cnnbench.api.overrides import refuse_preview, write_overrides
from cnnbench.api.reports import Report, compare
from cnnbench.api.results import Table
from cnnbench.api.runs import Run
from cnnbench.api.session import open_session
from cnnbench.bars import open_bar
from cnnbench.cli import compose
from cnnbench.cli.run_folders import find_folder
from cnnbench.cli.sweep import resume_sweep, run_sweep
from cnnbench.cli.sweep.session import Display
from cnnbench.report.formatting import format_count
from cnnbench.report.runs import find_runs
from cnnbench.report.study import Study
from cnnbench.sweeps.jobs import is_sweep
from cnnbench.sweeps.progress import SweepProgress
from cnnbench.sweeps.server import JobServer

log = logging.getLogger("cnnbench")


class _BarProgress(SweepProgress):
    """Follows the jobs with a progress bar, and logs those that fail."""

    def __enter__(self) -> "_BarProgress":
        self._bar = open_bar(total=self.total, initial=self.done, unit="job", desc=self.sweep.path.name)
        return self

    def __exit__(self, *raised: Any) -> None:
        self.refresh(at_once=True)
        self._bar.close()

    def refresh(self, *, at_once: bool = False) -> None:
        super().refresh(at_once=at_once)
        self._bar.set_postfix_str(f"best {self.best}" if self.best else "", refresh=False)
        self._bar.update(self.done - self._bar.n)

    def _print(self, line: str, *, even_if_live: bool) -> None:
        log.log(logging.WARNING if even_if_live else logging.INFO, "%s", line)


class _Quiet(Display):
    """Prints nothing: the caller gets the sweep."""

    progress = _BarProgress

    def show_result(self, study: Study | None, verdict: Sequence[str]) -> None:
        for line in verdict:
            log.info("%s", line)

    def show_folder(self, path: Path) -> None:
        pass


class Sweep:
    """A sweep, by its folder; in a notebook it shows the comparison of its runs.

    Args:
        folder: a sweep's folder.

    Attributes:
        folder: the same.
    """

    def __init__(self, folder: str | Path) -> None:
        with translate_errors():
            self.folder = check_folder(folder).absolute()  # for programs that change their current folder
            if not is_sweep(self.folder):
                raise ValueError(f"{str(folder)!r} is not the folder of a sweep: it has no sweep.yaml")

    @property
    def runs(self) -> list[Run]:
        """The runs that have begun, in the order of the jobs."""
        return [Run(path) for path in find_runs(self.folder)]

    @property
    def results(self) -> Table:
        """A row for each run, as in `results.csv`: a DataFrame, or without pandas a list of mappings."""
        return self.report().runs

    def report(self, **options: Any) -> Report:
        """The comparison of its runs; the options are those of `compare`."""
        return compare([self], **options)

    def resume(self, *, progress: bool = True) -> "Sweep":
        """Run the jobs that are left; return this sweep."""
        with open_session(progress=progress, computes=False), JobServer() as server:
            resume_sweep(self.folder.resolve(), server, display=_Quiet())
        return self

    def __repr__(self) -> str:
        return f"<cnnbench sweep {str(self.folder)!r}: {format_count(len(self.runs), 'run')}>"

    def _repr_html_(self) -> str:
        from cnnbench.api.html import render_message, render_study  # not at the top: it imports matplotlib

        title = f"Sweep {self.folder.name}"
        try:
            return render_study(title, self.report().study, self.folder)
        except Error as error:
            return render_message(title, str(error))


def load_sweep(folder: str | Path) -> Sweep:
    """Open a sweep.

    Args:
        folder: of the sweep; `latest` is the one below `outputs` that was written last.

    Raises:
        InvalidRequest: it is no sweep's folder.
    """
    with translate_errors():
        return Sweep(find_folder(check_folder(folder)))


def sweep(
    *overrides: str,
    model: Any = None,
    data: Any = None,
    folder: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Sweep:
    """Train every combination of several values, as `cnnbench train -m` does; jobs that are finished are not repeated.

    Args:
        overrides: as in a command, such as `"experiment=mlp_vs_lenet5"`.
        model, data: one or more names; jobs run in other processes, which cannot have objects of this one.
        folder: for the sweep; by default one below `outputs`.
        progress: show a progress bar.
        settings: keys of the config by name. A list names several values, such as `seed=[0, 1]`; for a key that holds a
            list, a list of lists does. `**{"sweep.seeds": 6}` repeats every config with six seeds.

    Raises:
        InvalidRequest: a name or a value that is not accepted, or a job that cannot run; nothing has been written.
        RunFailed: a run failed; the others have been run.
        KeyboardInterrupt: by Ctrl-C; the running jobs are saved, and the same call continues.
    """
    with open_session(progress=progress, computes=False):  # torch runs in the processes of the jobs
        place = None if folder is None else check_new_folder(folder)
        named = {"model": model, "data": data, "hydra.sweep.dir": place}
        settings = {key: value for key, value in named.items() if value is not None} | settings
        for key in ("model", "data"):
            _refuse_objects(key, settings.get(key))
        texts = write_overrides(overrides, settings, sweeping=True)
        with JobServer() as server:
            server.start()  # it imports torch while Hydra composes the jobs
            request = compose.compose_request(texts, multirun=True)
            refuse_preview(job.config for job in request.jobs)
            return Sweep(run_sweep(request, server, _Quiet()))


def _refuse_objects(key: str, value: Any) -> None:
    names = value if isinstance(value, list | tuple) else [value]
    if not all(one is None or isinstance(one, str) for one in names):
        raise ValueError(
            f"{key}: must be one or more names, because the jobs of a sweep run in other processes, which do not have "
            "the objects of this one: call cnnbench.train for each run, and cnnbench.compare with the runs"
        )
