"""Split rules for data sets without a published test split."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lsgcli.data import random
from lsgcli.errors import DataError, MissingPart

Item = tuple[str, int, int | None]  # key, label, and number in the file name, if any
TEST_SHARE = 0.1
SHOWN = 12  # of the classes without test samples

log = logging.getLogger("lsg")


def assign(items: Sequence[Item], rule: str, seed: int) -> list[str]:
    """``train`` or ``test`` for every item.

    Args:
        items: (key, label, number) of every recording; no index, which would depend on the listing order of the file system.
        rule: ``last`` (numbers 900-999 test), ``first`` (0-99 test), ``lexicographic`` (the last tenth of each class in the
            alphabetical order of the numbers, so 91-99 and 909-999 of 1000: what spikingjelly's split function gives), or
            ``stratified`` (a tenth of each class, drawn by ``seed``).
        seed: seed of ``stratified``.

    Raises:
        DataError: the rule requires numbers, and a recording has none.
    """
    return RULES[rule].apply(items, seed)


def check(root: Path, classes: Sequence[str], labels: Mapping[str, Collection[int]], rule: str, *, hint: str = "") -> None:
    """Check that each class has training samples and that there are test samples; warn about classes without test samples.

    Args:
        root: the folder, for messages.
        labels: part -> labels of its samples.
        hint: alternative solution for the error.

    Raises:
        MissingPart: a class has no training samples, or there are no test samples.
    """
    other = "" if rule == "stratified" else "choose another --split, such as --split stratified, a tenth of each class"
    advice = "; or ".join(filter(None, (hint, other))) or "add recordings"
    advice = f"{advice[0].upper()}{advice[1:]}."
    for part, found in labels.items():
        lacking = [name for label, name in enumerate(classes) if label not in found]
        rule_text = f"{RULES[rule].description} are the test part"
        if lacking and (part == "train" or len(lacking) == len(classes)):
            raise MissingPart(
                f"{root}: found no recordings of {lacking[0]} for the {part} part; {rule_text}", part=part, hint=advice
            )
        if lacking:
            shown = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
            problem = f"no test samples of {len(lacking)} of {len(classes)} classes: {shown}; {rule_text}"
            log.warning("%s: found %s. %s", root, problem, advice)


def _by_number(rule: str, low: int, high: int) -> Callable[[Sequence[Item], int], list[str]]:
    def assign(items: Sequence[Item], seed: int) -> list[str]:
        return ["test" if low <= _number(item, rule) <= high else "train" for item in items]

    return assign


def _number(item: Item, rule: str) -> int:
    key, _, number = item
    if number is None:
        raise DataError(
            f"{key}: found no number in its name, expected one for --split {rule}", hint="Use --split stratified instead."
        )
    return number


def _lexicographic(items: Sequence[Item], seed: int) -> list[str]:
    split = ["train"] * len(items)
    classes = defaultdict(list)
    for index, item in enumerate(items):
        classes[item[1]].append(index)
    for members in classes.values():
        members.sort(key=lambda index: str(_number(items[index], "lexicographic")))
        for index in members[math.ceil((1 - TEST_SHARE) * len(members)) :]:
            split[index] = "test"
    return split


def _stratified(items: Sequence[Item], seed: int) -> list[str]:
    ids, y = random.ids([item[0] for item in items]), np.array([item[1] for item in items], dtype=np.int64)
    return ["test" if test else "train" for test in drawn(ids, y, TEST_SHARE, seed, "test part")]


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


class Rule(NamedTuple):
    """A split rule and its description for messages."""

    apply: Callable[[Sequence[Item], int], list[str]]
    description: str


RULES = {
    "last": Rule(_by_number("last", 900, 999), "numbers 900 to 999 of each class"),
    "first": Rule(_by_number("first", 0, 99), "numbers 0 to 99 of each class"),
    "lexicographic": Rule(_lexicographic, "the last tenth of each class in alphabetical order"),
    "stratified": Rule(_stratified, "a tenth of each class"),
}
