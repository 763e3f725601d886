"""The loggers: CSV, and three programs that record runs."""

import csv
import json
import logging
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lsgcli.loggers.base import Logger
from lsgcli.registry import register
from lsgcli.runs.report import Epoch, LoggedRun
from lsgcli.system import files

PROJECT = "lsg"  # unless the program's environment variable names another
MOST = 1000  # metrics in a request to MLflow


@register("logger", "csv")
class CSV(Logger):
    """A table with a row per epoch, `logs/metrics.csv`."""

    def __init__(self, source: LoggedRun):
        super().__init__(source)
        self.file = source.folder / "metrics.csv"
        self.names: dict[str, None] = {}  # in the order of their appearance: earlier epochs may lack measures
        self.rows: list[dict[str, float]] = []

    def epoch(self, epoch: Epoch) -> None:
        row = {"epoch": epoch.number, **epoch.values}
        self.rows.append(row)
        self.names |= dict.fromkeys(row)
        with files.open_in_place(self.file, "w") as stream:
            writer = csv.DictWriter(stream, self.names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


@register("logger", "tensorboard")
class TensorBoard(Logger):
    """Event files in `logs/tensorboard`; `tensorboard --logdir runs` shows all runs."""

    extra = "tensorboard"
    packages = ("tensorboard",)

    def __init__(self, source: LoggedRun):
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(source)
        # A TensorBoard that is open drops the points that it has read.
        self.writer = SummaryWriter(str(source.new_folder("tensorboard")), purge_step=0)
        self.writer.add_text("settings", textwrap.indent(json.dumps(source.settings, indent=4), "    "), 0)
        self.writer.flush()

    def epoch(self, epoch: Epoch) -> None:
        for name, value in epoch.values.items():
            self.writer.add_scalar(name, value, epoch.number, walltime=epoch.time)
        self.writer.flush()

    def close(self, state: str) -> None:
        self.writer.close()


@register("logger", "wandb")
class WandB(Logger):
    """Weights & Biases, in `logs/wandb`; offline unless `WANDB_MODE` says otherwise, for `wandb sync`."""

    extra = "wandb"
    packages = ("wandb",)

    def __init__(self, source: LoggedRun):
        super().__init__(source)
        import wandb

        self.library = wandb
        offline = os.environ.setdefault("WANDB_MODE", "offline") == "offline"
        if offline:  # such a run cannot be continued: it is written again, under the same identifier
            source.new_folder("wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=source.name,
            id=source.id,
            resume=None if offline else "allow",
            dir=source.folder,
            config=source.settings,
            settings=wandb.Settings(console="off", silent=True),
        )
        self.logged = self.run.step

    def epoch(self, epoch: Epoch) -> None:
        self.run.log(dict(epoch.values), step=epoch.number)

    def end(self, results: Epoch, files: Sequence[Path]) -> None:
        self.epoch(results)
        artifact = self.library.Artifact(f"run-{self.source.id}", "model", metadata=dict(results.values))
        for file in files:
            artifact.add_file(str(file))
        self.run.log_artifact(artifact)

    def close(self, state: str) -> None:
        self.run.finish(exit_code=int(state == "failed"))


@register("logger", "mlflow")
class MLflow(Logger):
    """MLflow, in `mlflow.db` and `mlruns` of the working directory unless `MLFLOW_TRACKING_URI` names a store."""

    extra = "mlflow"
    packages = ("mlflow", "sqlalchemy", "alembic")

    def __init__(self, source: LoggedRun):
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is down delays training by seconds
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        super().__init__(source)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.client, name = MlflowClient(), os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        if runs := self.client.search_runs([experiment], f"tags.`lsg.id` = '{source.id}'"):
            self.id = runs[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            self.logged = len(self.client.get_metric_history(self.id, "train_loss"))
        else:
            self.id = self.client.create_run(experiment, run_name=source.name, tags={"lsg.id": source.id}).info.run_id
            self.client.log_batch(self.id, params=[Param(name, str(value)) for name, value in source.settings.items()])

    def epoch(self, epoch: Epoch) -> None:
        from mlflow.entities import Metric

        # Points that a killed process has logged have the same time, so that the store ignores them. train_loss is the last one.
        names = sorted(epoch.values, key=lambda name: name == "train_loss")
        metrics = [Metric(name, epoch.values[name], int(epoch.time * 1000), epoch.number) for name in names]
        for first in range(0, len(metrics), MOST):
            self.client.log_batch(self.id, metrics=metrics[first : first + MOST])

    def end(self, results: Epoch, files: Sequence[Path]) -> None:
        self.epoch(results)
        for file in files:
            self.client.log_artifact(self.id, str(file))

    def close(self, state: str) -> None:
        self.client.set_terminated(self.id, {"finished": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED"))
