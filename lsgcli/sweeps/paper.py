"""The paper's results (Lian et al., IJCAI 2023), each with the settings that it belongs to, and the rows of its tables."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from lsgcli.config.resolve import resolve
from lsgcli.config.run import FIELDS, SECTIONS, RunConfig, option_name
from lsgcli.registry import traits
from lsgcli.sweeps.plan import Variant

PLAIN = {"loss": "ce", "augment": "none"}
# Rows in the paper's order, but with the baseline first.
TABLES: dict[str, tuple[Variant, ...]] = {
    "1": ({"method": "fixed"}, {"method": "trainable-decay"}, {"method": "lsg"}),
    "2": (*({"method": "fixed", "width": width} for width in (1.0, 0.5, 2.5, 5.0, 10.0)), {"method": "lsg"}),
    "3": tuple({"method": "lsg", "T": T} for T in (2, 4, 6)),
}
TABLE_3_OF_CIFAR_DVS: tuple[Variant, ...] = (
    {"method": "lsg", "T": 10, **PLAIN},
    {"method": "lsg", "T": 10, "loss": "tet", "augment": "flip,roll"},
)

# Tables 1 and 3, and the text, report different values for the same configuration. Settings that are not stated here are those of the
# recipe lsg; "plain" has PLAIN instead. A column that the paper does not state is -. Table 3 names ResNet-19 as the network of CIFAR10-DVS,
# the text VGGSNN.
REPORTED = """
table  data set   method           width  T   training  accuracy  standard deviation over five runs
1      cifar10    fixed            1      2   recipe    0.9268    -
1      cifar10    trainable-decay  1      2   recipe    0.9316    -
1      cifar10    lsg              -      2   recipe    0.9441    -
1      cifar100   fixed            1      2   recipe    0.7387    -
1      cifar100   trainable-decay  1      2   recipe    0.7412    -
1      cifar100   lsg              -      2   recipe    0.7622    -
1      cifar-dvs  fixed            1      10  plain     0.7380    -
1      cifar-dvs  trainable-decay  1      10  plain     0.7540    -
1      cifar-dvs  lsg              -      10  plain     0.7750    -
2      cifar10    fixed            0.5    2   recipe    0.9212    -
2      cifar10    fixed            1      2   recipe    0.9268    -
2      cifar10    fixed            2.5    2   recipe    0.9068    -
2      cifar10    fixed            5      2   recipe    0.6154    -
2      cifar10    fixed            10     2   recipe    0.3082    -
2      cifar10    lsg              -      2   recipe    0.9441    -
3      cifar10    lsg              -      2   recipe    0.9441    0.0008
3      cifar10    lsg              -      4   recipe    0.9517    0.0005
3      cifar10    lsg              -      6   recipe    0.9552    0.0005
3      cifar100   lsg              -      2   recipe    0.7632    0.0012
3      cifar100   lsg              -      4   recipe    0.7685    0.0010
3      cifar100   lsg              -      6   recipe    0.7713    0.0007
3      cifar-dvs  lsg              -      10  plain     0.7790    0.0015
3      cifar-dvs  lsg              -      10  recipe    0.8370    0.0015
text   cifar10    lsg              -      2   recipe    0.9489    -
"""
# Settings that do not tell which result a run is: of its machine, its place and its seed.
NOT_COMPARED = {*SECTIONS["Machine"], "data_dir", "backend", "recipe", "seed"}
Differences = Mapping[str, tuple[Any, Any]]  # setting -> the paper's value, and that of a run


class Result(NamedTuple):
    """A result of the paper: a line of ``REPORTED``."""

    table: str
    dataset: str
    method: str
    width: float | None
    T: int
    training: str
    accuracy: float
    std: float | None

    def differences(self, config: RunConfig) -> Differences:
        """The settings in which a run differs from those that the result belongs to."""
        own = _settings(self)
        names = [name for name in FIELDS if name not in NOT_COMPARED and getattr(own, name) != getattr(config, name)]
        return {name: (getattr(own, name), getattr(config, name)) for name in names}


def _number(text: str) -> float | None:
    return None if text == "-" else float(text)


def _results() -> list[Result]:
    found = []
    for line in REPORTED.strip().splitlines()[1:]:
        table, dataset, method, width, T, training, accuracy, std = line.split()
        found.append(Result(table, dataset, method, _number(width), int(T), training, float(accuracy), _number(std)))
    return found


RESULTS = _results()


@cache
def _settings(result: Result) -> RunConfig:
    """The settings that a result belongs to."""
    given = {"recipe": "lsg", "dataset": result.dataset, "method": result.method, "T": result.T, "width": result.width}
    if result.training == "plain":
        given |= PLAIN
    return resolve(given, environment={})


def variants(table: str, dataset: str) -> tuple[Variant, ...]:
    """The rows of one of the paper's tables for a data set."""
    return TABLE_3_OF_CIFAR_DVS if (table, dataset) == ("3", "cifar-dvs") else TABLES[table]


def reported(config: RunConfig, table: str | None) -> tuple[Result, Differences] | None:
    """The result in the paper's ``table`` for the data set and method of a run, and in what the run differs from it.

    Of several, the one with the fewest differences.
    """
    wanted = (table, config.dataset, config.method)
    candidates = [result for result in RESULTS if (result.table, result.dataset, result.method) == wanted]
    found = [(result, result.differences(config)) for result in candidates]
    return min(found, key=lambda one: len(one[1]), default=None)


def differing(differences: Differences) -> str:
    """The differences in words."""
    return ", ".join(f"{option_name(name)} {theirs} instead of {own}" for name, (theirs, own) in differences.items())


def table_of(configs: Sequence[RunConfig]) -> str | None:
    """The first of the paper's tables that has a result with the settings of every row, or None."""
    for table in TABLES:
        found = [reported(config, table) for config in configs]
        if all(one is not None and not one[1] for one in found):
            return table
    return None


def fixed_width(config: RunConfig) -> float | None:
    """The surrogate width alpha if the method keeps it fixed, otherwise None."""
    return config.width if traits("method", config.method).width.setting == "width" else None
