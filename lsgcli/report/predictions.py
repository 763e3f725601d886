"""Predictions as lines: columns separated by tabs, or JSON."""

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsgcli.predict import Answer, Prediction
    from lsgcli.streaming import Timestep

UNSURE = "?"


def printable(text: str) -> str:
    r"""Text for one column of one line, whatever is in a file's name: control characters and backslashes become \t, \n, \\, \x1b, ...

    Bytes that are no text, as names of files may hold, become \x80 to \xff.
    """
    return "".join(one if one.isprintable() and one != "\\" else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    if "\udc80" <= one <= "\udcff":  # a byte, as os.fsdecode has it
        return f"\\x{os.fsencode(one)[0]:02x}"
    return one.encode("unicode_escape").decode() if one < "\x80" or one > "\xff" else f"\\u{ord(one):04x}"


@dataclass(frozen=True)
class Lines:
    """How an answer is written.

    Attributes:
        as_json: JSON rather than columns.
        top: how many classes; None for the first, and in JSON the probabilities of all.
        by_step: also the class after each timestep.
        threshold: a class that is less probable is unsure: ``?`` in a column, ``unsure`` in JSON.
        logits: also the logits, in JSON.
    """

    as_json: bool = False
    top: int | None = None
    by_step: bool = False
    threshold: float = 0.0
    logits: bool = False

    def prediction(self, answer: "Prediction") -> str:
        """The line of a file."""
        record, columns = self._answer(answer)
        if self.by_step:
            values, indices = answer.by_step.max(-1)
            record["by_step"] = [answer.classes[i] for i in indices.tolist()]
            record["by_step_probability"] = values.tolist()
            columns += [self._class(name, p) for name, p in zip(record["by_step"], values.tolist(), strict=True)]
        return json.dumps(record) if self.as_json else "\t".join(columns)

    def timestep(self, answer: "Timestep") -> str:
        """The line of a timestep of a stream."""
        record, columns = self._answer(answer)
        about = {"window": answer.window, "step": answer.step, "events": answer.events, "t_us": list(answer.t_us)}
        return json.dumps({**record, **about}) if self.as_json else "\t".join([*columns, str(answer.step)])

    def _answer(self, answer: "Answer") -> tuple[dict[str, Any], list[str]]:
        found = answer.top(self.top or 1)
        (name, probability), *_ = found
        every = found if self.top else zip(answer.classes, answer.probabilities.tolist(), strict=True)
        record = {"path": answer.path, "class": name, "probability": probability, "probabilities": dict(every)}
        record |= {"unsure": probability < self.threshold} if self.threshold else {}
        record |= {"logits": answer.logits.tolist()} if self.logits else {}
        pairs = [column for name, p in found for column in (self._class(name, p), f"{p:.4f}")]
        return record, [printable(answer.path), *pairs]

    def _class(self, name: str, probability: float) -> str:
        return printable(name) if probability >= self.threshold else UNSURE
