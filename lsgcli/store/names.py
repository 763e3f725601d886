"""Names of results in files and JSON: one for each meaning. Former names stay beside those of today."""

from collections.abc import Mapping

from lsgcli.config.fields import Values
from lsgcli.system.schema import Record

# Output -> former name -> that of today. Of "show", layers have both, too.
FORMER: Mapping[str, Mapping[str, str]] = {
    "result.json": {
        "best_test_accuracy": "test_accuracy_highest",
        "precision": "macro_precision",
        "recall": "macro_recall",
        "f1": "macro_f1",
    },
    "eval": {"precision": "macro_precision", "recall": "macro_recall", "f1": "macro_f1"},
    "runs": {
        "epoch": "epochs_done",
        "epochs": "epochs_planned",
        "val_accuracy": "val_accuracy_best",
        "test_accuracy": "accuracy",
    },
    "compare": {
        "epochs": "epochs_done",
        "of": "epochs_planned",
        "val_accuracy": "val_accuracy_last",
        "best_val_accuracy": "val_accuracy_best",
        "test_accuracy": "test_accuracy_last",
        "reason": "diverged",
    },
    "tune": {"epochs": "epochs_done", "val_accuracy": "val_accuracy_best"},
    "show": {"decay": "beta", "width": "alpha", "multiplications": "macs_per_sample"},
}
# A name, or several of the same kind, and what it means.
MEANINGS = {
    "accuracy": "test accuracy of the run's checkpoint; of `lsg eval`: of the samples evaluated",
    "accuracy_by_timestep": "of the predictions after each timestep",
    "accuracy_fp32": "the same in fp32, after a training in another precision",
    "best_epoch, best_chosen_on": "number of the best epoch, from 0, and the split that selects it: `val`, or `test` without one",
    "val_accuracy_best": "validation accuracy of the best epoch so far",
    "val_accuracy_last": "of the last epoch so far",
    "test_accuracy_best": "test accuracy of the best epoch's network",
    "test_accuracy_last": "of the last epoch's",
    "test_accuracy_highest": "highest of all epochs, if each was evaluated on the test part",
    "best_accuracy": "`val_accuracy_best`, or without a validation split `test_accuracy_highest`",
    "inflation": "`test_accuracy_highest` - `accuracy`",
    "epochs_done, epochs_planned": "number of finished epochs, and the setting `epochs`",
    "epoch": "number of an epoch, from 0",
    "train_accuracy, val_accuracy, test_accuracy": "of the epoch",
    "train_loss, val_loss, test_loss, loss": "training loss of the epoch; the others: cross-entropy",
    "macro_precision, macro_recall, macro_f1": "means over the classes",
    "val_precision, val_recall, val_f1, test_precision, test_recall, test_f1": "the same, of the epoch",
    "top5_accuracy": "from 20 classes on",
    "per_class, scores, confusion": "of each class: accuracy; precision, recall and F1; counts, rows are labels",
    "precision": "of the computation: fp32, bf16, ...",
    "firing_rate": "by layer; in `metrics.jsonl`, mean over layers",
    "beta, alpha, layers": "measures of layers, as in records of gradient flow",
    "macs_per_sample": "multiplications of a sample in all timesteps",
    "lr, seconds, data_wait": "learning rate at its end, duration and share of waiting for data of an epoch, or of all",
    "samples, samples_per_s": "number of samples evaluated, and per second",
    "run, path, checkpoint": "the run's directory; the file of its network",
    "event, state, started, diverged": "kind of a record; state of the run, its start, and why it diverged",
}


def canonical(record: Values, output: str) -> Record:
    """A record of an output, with the values of former names also by those of today."""
    found = dict(record)
    for former, name in FORMER[output].items():
        if former in record and record.get(name) is None:
            found[name] = record[former]
    return found
