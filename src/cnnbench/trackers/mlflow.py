"""MLflow: by default a database beside the runs: `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db`.

MLflow lets two processes that create the same database spoil it, and two that write to it lock each other out. Ours
take turns, and a new database has its name only once it is whole.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cnnbench.registry import register
from cnnbench.runs.folder import FAILED, FINISHED
from cnnbench.storage.atomic import TEMPORARY, lock_folder
from cnnbench.trackers import Tracked, numbers, remember, require

SQLITE = "sqlite:///"
STATES = {FINISHED: "FINISHED", FAILED: "FAILED"}  # else KILLED: a run that can be resumed, or was pruned
LONGEST = 6000  # characters of a parameter's value
WAITS = 120.0  # seconds for a turn at the database: creating one takes ten on a busy machine


class _MLflow:
    def __init__(self, run: Tracked, *, tracking_uri: str, experiment: str) -> None:
        # It would report its use over the network, and fetch what to report.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A server that is not there would hold the run up for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.run = run
        self.turn = partial(_turn, tracking_uri)
        with self.turn():
            _create(tracking_uri, experiment)
            self.client = MlflowClient(tracking_uri=tracking_uri)
            self.id = self._known() or self._new(_experiment(self.client, tracking_uri, experiment))

    def _known(self) -> str | None:
        """The run that this one was before it was interrupted, if it is still there."""
        from mlflow.exceptions import MlflowException

        if self.run.id is None:
            return None
        try:
            self.client.update_run(self.run.id, status="RUNNING")
        except MlflowException:
            return None
        return self.run.id

    def _new(self, experiment_id: str) -> str:
        from mlflow.entities import Param

        tags = {"folder": str(self.run.folder)}
        made = self.client.create_run(experiment_id, run_name=self.run.name, tags=tags).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in self.run.config.items()]
        for first in range(0, len(params), 100):  # no more are accepted at once
            self.client.log_batch(made, params=params[first : first + 100])
        remember(self.run.folder, "mlflow", made)
        return made

    def log(self, row: Mapping[str, Any]) -> None:
        with self.turn():
            self._metrics(numbers(row), int(row["epoch"]))

    def _metrics(self, values: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, epoch) for name, value in values.items()])

    def finish(self, summary: Mapping[str, Any]) -> None:
        with self.turn():
            self._finish(summary)

    def _finish(self, summary: Mapping[str, Any]) -> None:
        self._metrics(numbers(summary), int(summary["epochs"]))
        self.client.log_dict(self.id, dict(summary), "summary.json")
        if rows := self.run.per_class:
            self.client.log_table(self.id, {key: [row[key] for row in rows] for key in rows[0]}, "per_class.json")
        for path in (*self.run.pictures, self.run.folder / "config.yaml"):
            self.client.log_artifact(self.id, str(path))

    def close(self, state: str) -> None:
        with self.turn():
            self.client.set_terminated(self.id, STATES.get(state, "KILLED"))


def _file_of(tracking_uri: str) -> Path | None:
    """The file or folder that a tracking URI names; None of a server."""
    scheme = next((scheme for scheme in (SQLITE, "file://") if tracking_uri.startswith(scheme)), None)
    return Path(tracking_uri.removeprefix(scheme).partition("?")[0]).absolute() if scheme else None


def _turn(tracking_uri: str) -> AbstractContextManager[None]:
    """Within it, no other run uses the database; a server has its own ways."""
    file = _file_of(tracking_uri)
    if file is None or not file.name:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return lock_folder(file.parent, name=f".{file.name}.lock", timeout=WAITS)


def _create(tracking_uri: str, experiment: str) -> None:
    """Make a database that is not there yet, under another name until all of it is there."""
    from mlflow import MlflowClient

    file = _file_of(tracking_uri)
    if file is None or not tracking_uri.startswith(SQLITE) or (file.exists() and file.stat().st_size):
        return
    for left in file.parent.glob(f".{file.name}.*{TEMPORARY}"):  # of a process that was killed just here
        left.unlink(missing_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}{TEMPORARY}")
    client = MlflowClient(tracking_uri=f"{SQLITE}{new}")
    _experiment(client, tracking_uri, experiment)
    with suppress(AttributeError):  # MLflow would keep it open, and Windows renames no open file
        client._tracking_client.store._dispose_engine()
    os.replace(new, file)


def _experiment(client: Any, tracking_uri: str, name: str) -> str:
    """The experiment's id; a database in a file keeps its artifacts in a folder beside it."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    location = None
    if tracking_uri.startswith(SQLITE) and (file := _file_of(tracking_uri)):
        location = file.with_suffix(".artifacts").as_uri()
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException:
        # Another run may have made it meanwhile.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


@register("logger", "mlflow")
def mlflow(tracking_uri: str, experiment: str) -> Callable[[Tracked], _MLflow]:
    """A run of an MLflow experiment.

    Args:
        tracking_uri: a database (`sqlite:///FILE`) or a server (`http://…`); a relative file is one below where the
            command runs.

    Raises:
        ValueError: the package is not installed, or a name is empty.
    """
    for key, value in (("tracking_uri", tracking_uri), ("experiment", experiment)):
        if not value.strip():
            raise ValueError(f"logger.mlflow.{key}={value!r}: accepted is a text that is not empty")
    if "://" not in tracking_uri:
        raise ValueError(f"logger.mlflow.tracking_uri={tracking_uri}: accepted is sqlite:///FILE or http://HOST:PORT")
    require("mlflow")
    return partial(_MLflow, tracking_uri=tracking_uri, experiment=experiment)
