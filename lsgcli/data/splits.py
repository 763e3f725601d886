"""Split rules for data sets without a published test split."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lsgcli.data import random
from lsgcli.data.datasets.base import Sample
from lsgcli.errors import DataError, MissingPart, log, some

TEST_SHARE = 0.1
ADVICE = "Add recordings, or choose another split, such as --split stratified, or fewer folds."
Test = Callable[[Sequence[Sample], str, int], Iterable[bool]]  # samples, rule, seed -> which are test samples


def assign(samples: Sequence[Sample], rule: str, seed: int) -> list[Sample]:
    """The samples with ``split`` set to ``train`` or ``test``.

    Args:
        samples: their number is the last one in the file name. Their order, which may depend on the file system, has no effect.
        rule: ``last`` (numbers 900-999 test), ``first`` (0-99 test), ``lexicographic`` (the last tenth of each class in the
            alphabetical order of the numbers, so 91-99 and 909-999 of 1000: what spikingjelly's split function gives),
            ``stratified`` (a tenth of each class, drawn by ``seed``), or ``I/K`` (fold I of K stratified folds).
        seed: seed of ``stratified``.

    Raises:
        DataError: the rule requires numbers, and a recording has none.
    """
    test = RULES.get(rule, _fold)(samples, rule, seed)
    return [one._replace(split="test" if held else "train") for one, held in zip(samples, test, strict=True)]


def divide(
    root: Path, classes: Sequence[str], samples: Sequence[Sample], splits: Sequence[str], rule: str, seed: int
) -> tuple[Sample, ...]:
    """The samples of the given splits, as in :func:`assign`; warns about classes without test samples.

    Args:
        root: the folder, for messages.

    Raises:
        DataError: the rule requires numbers, and a recording has none.
        MissingPart: a class has no training samples, or there are no test samples.
    """
    samples = [sample for sample in assign(samples, rule, seed) if sample.split in splits]
    for split in splits:
        there = {sample.label for sample in samples if sample.split == split}
        lacking = [name for label, name in enumerate(classes) if label not in there]
        if not lacking:
            continue
        problem = f"{root}: found no recordings of {some(lacking)} for the {split} part by the rule {rule}"
        if split == "train" or not there:
            raise MissingPart(problem, part=split, hint=ADVICE)
        log.warning("%s. %s", problem, ADVICE)
    return tuple(samples)


def drawn(ids: np.ndarray, y: np.ndarray, share: float, seed: int, stream: str) -> np.ndarray:
    """(N,) bool: a fraction of each class, selected by a hash of (seed, sample).

    Selects round(share * n) of n samples, but at least 1 if n >= 2, and never all.

    Args:
        ids: (N,) uint64 from :func:`lsgcli.data.random.ids`.
        y: (N,) labels.
        stream: name that makes different uses independent.
    """
    draw = random.uniforms(seed, 0, ids, 1, stream)[:, 0]
    chosen = np.zeros(len(ids), dtype=bool)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        chosen[members[np.argsort(draw[members], kind="stable")[:count]]] = True
    return chosen


def _number(rule: str, sample: Sample) -> int:
    digits = re.findall(r"\d+", Path(sample.key).stem)
    if not digits:
        raise DataError(
            f"{sample.key}: found no number in its name, expected one for --split {rule}",
            "Use --split stratified instead.",
        )
    return int(digits[-1])


def _hundred(samples: Sequence[Sample], rule: str, seed: int) -> list[bool]:
    """The last or first hundred of a thousand."""
    return [_number(rule, sample) // 100 == (9 if rule == "last" else 0) for sample in samples]


def _lexicographic(samples: Sequence[Sample], rule: str, seed: int) -> np.ndarray:
    y = np.array([sample.label for sample in samples])
    text = np.array([str(_number(rule, sample)) for sample in samples])
    test = np.zeros(len(samples), dtype=bool)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        members = members[np.argsort(text[members], kind="stable")]
        test[members[math.ceil((1 - TEST_SHARE) * len(members)) :]] = True
    return test


def _stratified(samples: Sequence[Sample], rule: str, seed: int) -> np.ndarray:
    ids = random.ids([sample.key for sample in samples])
    y = np.array([sample.label for sample in samples])
    return drawn(ids, y, TEST_SHARE, seed, "test part")


def _fold(samples: Sequence[Sample], rule: str, seed: int) -> np.ndarray:
    """Every K-th sample, sorted by class, and within a class by a hash of the key: K folds with equal shares of each class, up to one."""
    number, folds = map(int, rule.split("/"))
    ids = random.ids([sample.key for sample in samples])
    y = np.array([sample.label for sample in samples])
    order = np.lexsort((random.uniforms(0, 0, ids, 1, "folds")[:, 0], y))
    test = np.zeros(len(samples), dtype=bool)
    test[order[number - 1 :: folds]] = True
    return test


RULES: dict[str, Test] = {"last": _hundred, "first": _hundred, "lexicographic": _lexicographic, "stratified": _stratified}
