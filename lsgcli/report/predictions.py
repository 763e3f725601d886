"""Predictions as lines of tab-separated columns, JSON or CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lsgcli.report.output import csv_text
from lsgcli.system.files import json_text
from lsgcli.system.text import clean

if TYPE_CHECKING:
    from torch import Tensor

    from lsgcli.data.bundle import Split
    from lsgcli.inference.predict import Answer, Prediction
    from lsgcli.inference.stream import Timestep

UNSURE = "?"
HEAD = "path,label,prediction,probability"


@dataclass(frozen=True)
class Lines:
    """Formatting of predictions.

    Attributes:
        as_json: JSON instead of columns.
        top: number of classes; None for the most probable one, and in JSON the probabilities of all.
        by_step: include the class after each timestep.
        threshold: a class with lower probability is unsure: ``?`` in a column, ``unsure`` in JSON.
        logits: include the logits, in JSON.
    """

    as_json: bool = False
    top: int | None = None
    by_step: bool = False
    threshold: float = 0.0
    logits: bool = False

    def prediction(self, answer: "Prediction") -> str:
        """The line for a file."""
        record, columns = self._answer(answer)
        if self.by_step:
            values, indices = answer.by_step.max(-1)
            record["by_step"] = [answer.classes[i] for i in indices.tolist()]
            record["by_step_probability"] = values.tolist()
            columns += [self._class(name, p) for name, p in zip(record["by_step"], values.tolist(), strict=True)]
        return json_text(record) if self.as_json else "\t".join(columns)

    def timestep(self, answer: "Timestep") -> str:
        """The line for a timestep of a stream."""
        record, columns = self._answer(answer)
        record |= {"window": answer.window, "step": answer.step, "events": answer.events, "t_us": list(answer.t_us)}
        return json_text(record) if self.as_json else "\t".join([*columns, str(answer.step)])

    def _answer(self, answer: "Answer") -> tuple[dict[str, Any], list[str]]:
        found = answer.top(self.top or 1)
        (name, probability), *_ = found
        every = found if self.top else zip(answer.classes, answer.probabilities.tolist(), strict=True)
        record = {
            **{"path": answer.path, "class": name, "probability": probability, "probabilities": dict(every)},
            **({"unsure": probability < self.threshold} if self.threshold else {}),
            **({"logits": answer.logits.tolist()} if self.logits else {}),
        }
        pairs = [column for name, p in found for column in (self._class(name, p), f"{p:.4f}")]
        return record, [clean(answer.path, column=True), *pairs]

    def _class(self, name: str, probability: float) -> str:
        return clean(name, column=True) if probability >= self.threshold else UNSURE


def samples_csv(split: "Split", answers: "Tensor", classes: Sequence[str]) -> str:
    """A line per sample of an evaluation, in the order of the split.

    Args:
        answers: (N, 3), as in :class:`lsgcli.training.evaluate.Evaluation`.
    """
    rows = zip(split.keys, split.y, answers.tolist(), strict=True)
    named = ([key, classes[label], classes[int(answer)], f"{probability:.6g}"] for key, label, (answer, probability, _) in rows)
    return csv_text([HEAD.split(","), *named])
