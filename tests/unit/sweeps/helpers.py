"""Ablations whose runs nobody has to train, and a cluster without machines."""

from pathlib import Path

from lsgcli.store.rundir import CONFIG, METRICS, RESULT, SCHEMA
from lsgcli.sweeps.jobs import append_record, read_record
from lsgcli.sweeps.launchers import CANCELLED, Launcher
from lsgcli.sweeps.plan import Cell, Plan
from lsgcli.sweeps.statistics import rows
from lsgcli.system import files
from tests import tiny


def record(accuracy, last=None, best=None, chosen_on="val"):
    """The final record of a run; of one that diverged where ``accuracy`` is None."""
    if accuracy is None:
        return {"accuracy": None, "diverged": "loss nan"}
    return {
        "accuracy": accuracy,
        "test_accuracy_last": accuracy if last is None else last,
        "test_accuracy_best": accuracy if best is None else best,
        "best_chosen_on": chosen_on,
    }


def table(*groups, paper=None, margin=None):
    """Rows of (settings, {seed: accuracy}) each; an accuracy of "missing" is a run that has not finished."""
    cells = []
    for row, (settings, accuracies) in enumerate(groups):
        settings = {"method": settings} if isinstance(settings, str) else settings
        seeds = accuracies if isinstance(accuracies, dict) else dict(enumerate(accuracies))
        for seed, accuracy in seeds.items():
            result = None if accuracy == "missing" else record(accuracy)
            cells.append(Cell(row, tiny.config(**settings, seed=seed), Path(f"row{row}/s{seed}"), result=result))
    return rows(cells, paper, margin)


def plan(root, *variants, seeds=(0, 1), table=None, **settings):
    """A plan of rows that differ in ``variants``."""
    return Plan(Path(root), tuple((variant, tiny.config(**settings, **variant)) for variant in variants), seeds, table)


def write_run(cell, accuracy="none yet", epochs=0, used=None, data_digest=None, **changes):
    """What a run leaves in its directory: a finished one unless ``accuracy`` is left out."""
    cell.path.mkdir(parents=True)
    facts = {"precision": {"used": used}} if used else {}
    facts |= {"data_digest": data_digest} if data_digest else {}
    files.write_json(cell.path / CONFIG, {"schema": SCHEMA, "settings": cell.config.replace(**changes).to_dict(), **facts})
    for epoch in range(epochs):
        files.append_json_line(cell.path / METRICS, {"epoch": epoch, "val_accuracy": 0.5, "val_loss": 1.0})
    if accuracy != "none yet":
        files.write_json(cell.path / RESULT, record(accuracy))


class Cluster(Launcher):
    """A scheduler: ``happens`` decides what becomes of a job when it is submitted: None lets it run on."""

    pause = 0.0

    def __init__(self, happens, lasting=True, room=100):
        self.happens, self.lasting, self.room = happens, lasting, room
        self.submitted, self.living, self.cancelled, self.revoked = [], set(), [], set()

    def submit(self, jobs):
        for job in jobs[: self.room]:
            self.submitted.append(job.name)
            if self.happens(job) is None:
                self.living.add(job.name)
        return {job.name: str(len(self.submitted)) for job in jobs[: self.room]}

    def look(self, ids):
        found = dict.fromkeys(self.revoked & ids.keys(), CANCELLED)
        return found | dict.fromkeys(self.living & ids.keys(), "")

    def cancel(self, ids):
        self.cancelled += ids
        self.living -= ids.keys()
        self.revoked |= ids.keys()


def finish(job):
    Path(job.path).mkdir(parents=True)
    files.write_json(Path(job.path) / RESULT, record(0.5))
    return True


def fail(job, status=3, message="error: frames.npz: damaged\n  Prepare the data again.\n"):
    job.file(".log").write_text("epoch 1\n" + message)
    record = job.file(".jsonl")
    append_record(record, started=True, attempts=read_record(record).attempts + 1, status=status)
    return True
