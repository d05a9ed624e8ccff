"""MLflow: by default a database beside the runs; `mlflow ui --backend-store-uri sqlite:///FILE` shows it."""

# Two processes that create the same database corrupt it, and two that write to it lock each other out. Ours take turns,
# and a new database gets its name only once it is complete.

import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cnnbench.config.keys import Options, key
from cnnbench.registry import register
from cnnbench.runs.folder import FAILED, FINISHED
from cnnbench.storage.atomic import TEMPORARY, lock_folder
from cnnbench.trackers import TrackedRun, select_numbers, store_id

SQLITE = "sqlite:///"
STATES = {FINISHED: "FINISHED", FAILED: "FAILED"}  # else KILLED: a run that can be resumed, or was pruned
MOST_CHARACTERS = 6000  # of a parameter's value
MOST_PARAMS = 100  # that MLflow accepts in one call
LOCK_SECONDS = 120.0  # to wait for the database: creating it takes ten seconds on a busy machine


class MLflowOptions(Options):
    """What `configs/logger/mlflow.yaml` sets."""

    tracking_uri: Annotated[str, Field(pattern="://")] = key(
        "A database or a server; a relative file is below the folder that the command runs in",
        role="record",
        accepted="sqlite:///FILE or http://HOST:PORT",
    )
    experiment: Annotated[str, Field(pattern=r"\S")] = key(
        "The MLflow experiment", role="record", accepted="text that is not blank"
    )


@register("logger", "mlflow", package="mlflow")
class _MLflow:
    def __init__(self, run: TrackedRun, options: MLflowOptions) -> None:
        # Otherwise MLflow reports its use over the network, and waits minutes for a server that is down.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.run, self.uri = run, options.tracking_uri
        with _lock_database(self.uri):
            _create_database(self.uri, options.experiment)
            self.client = MlflowClient(tracking_uri=self.uri)
            self.id = self._reopen() or self._create(_find_experiment(self.client, self.uri, options.experiment))

    def _reopen(self) -> str | None:
        from mlflow.exceptions import MlflowException

        if self.run.id is None:
            return None
        try:
            self.client.update_run(self.run.id, status="RUNNING")
        except MlflowException:  # it was deleted
            return None
        return self.run.id

    def _create(self, experiment_id: str) -> str:
        from mlflow.entities import Param

        tags = {"folder": str(self.run.folder)}
        created = self.client.create_run(experiment_id, run_name=self.run.name, tags=tags).info.run_id
        params = [Param(_make_valid(name), str(value)[:MOST_CHARACTERS]) for name, value in self.run.config.items()]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(created, params=params[first : first + MOST_PARAMS])
        store_id(self.run.folder, "mlflow", created)
        return created

    def log(self, row: Mapping[str, Any]) -> None:
        with _lock_database(self.uri):
            self._log_metrics(row, int(row["epoch"]))

    def _log_metrics(self, row: Mapping[str, Any], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_make_valid(name), value, now, epoch) for name, value in select_numbers(row).items()]
        self.client.log_batch(self.id, metrics=metrics)

    def finish(self, summary: Mapping[str, Any]) -> None:
        with _lock_database(self.uri):
            self._log_metrics(summary, int(summary["epochs"]))
            self.client.log_dict(self.id, dict(summary), "summary.json")
            if rows := self.run.per_class:
                self.client.log_table(
                    self.id, {name: [row[name] for row in rows] for name in rows[0]}, "per_class.json"
                )
            for path in (*self.run.pictures, self.run.folder / "config.yaml"):
                self.client.log_artifact(self.id, str(path))

    def close(self, state: str) -> None:
        with _lock_database(self.uri):
            self.client.set_terminated(self.id, STATES.get(state, "KILLED"))


def _make_valid(name: str) -> str:
    """A name that MLflow accepts: those of parts of a network may be globs, such as `*norm*`."""
    return re.sub(r"[^\w./ -]", "_", name)


def _find_local_path(tracking_uri: str) -> Path | None:
    """The file or folder that a tracking URI names; None for a server."""
    scheme = next((scheme for scheme in (SQLITE, "file://") if tracking_uri.startswith(scheme)), None)
    return Path(tracking_uri.removeprefix(scheme).partition("?")[0]).absolute() if scheme else None


def _lock_database(tracking_uri: str) -> AbstractContextManager[None]:
    """Keep other runs from the database; a server needs no lock."""
    file = _find_local_path(tracking_uri)
    if file is None or not file.name:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return lock_folder(file.parent, name=f".{file.name}.lock", timeout=LOCK_SECONDS)


def _create_database(tracking_uri: str, experiment: str) -> None:
    """Create the database if it does not exist, under a temporary name until it is complete."""
    from mlflow import MlflowClient

    file = _find_local_path(tracking_uri)
    if file is None or not tracking_uri.startswith(SQLITE) or (file.exists() and file.stat().st_size):
        return
    for leftover in file.parent.glob(f".{file.name}.*{TEMPORARY}"):  # of a process that was killed in this function
        leftover.unlink(missing_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}{TEMPORARY}")
    client = MlflowClient(tracking_uri=f"{SQLITE}{new}")
    _find_experiment(client, tracking_uri, experiment)
    with suppress(AttributeError):  # MLflow keeps the file open, and Windows renames no open file
        client._tracking_client.store._dispose_engine()
    os.replace(new, file)


def _find_experiment(client: Any, tracking_uri: str, name: str) -> str:
    """The experiment's id; if it does not exist, it is created, with a folder beside the database for its artifacts."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        file = _find_local_path(tracking_uri) if tracking_uri.startswith(SQLITE) else None
        location = file.with_suffix(".artifacts").as_uri() if file else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # on a server, another run may have just created it
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id
