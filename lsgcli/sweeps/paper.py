"""The paper's tables (Lian et al., IJCAI 2023): their rows and reported accuracies."""

from collections.abc import Sequence

from lsgcli.config.run import RunConfig
from lsgcli.config.source import traits
from lsgcli.sweeps.plan import Variant

# Rows in the paper's order, but with the baseline first.
TABLES: dict[str, tuple[Variant, ...]] = {
    "1": ({"method": "fixed"}, {"method": "trainable-decay"}, {"method": "lsg"}),
    "2": (*({"method": "fixed", "width": width} for width in (1.0, 0.5, 2.5, 5.0, 10.0)), {"method": "lsg"}),
    "3": tuple({"method": "lsg", "T": T} for T in (2, 4, 6)),
}

# Tables 1 and 3 report different values for the same configuration. A column that the paper does not state is -.
REPORTED = """
table  data set   method           width  T   accuracy  standard deviation over five runs
1      cifar10    fixed            1      2   0.9268    -
1      cifar10    trainable-decay  1      2   0.9316    -
1      cifar10    lsg              -      2   0.9441    -
1      cifar100   fixed            1      2   0.7387    -
1      cifar100   trainable-decay  1      2   0.7412    -
1      cifar100   lsg              -      2   0.7622    -
1      cifar-dvs  fixed            1      10  0.7380    -
1      cifar-dvs  trainable-decay  1      10  0.7540    -
1      cifar-dvs  lsg              -      10  0.7750    -
2      cifar10    fixed            0.5    2   0.9212    -
2      cifar10    fixed            1      2   0.9268    -
2      cifar10    fixed            2.5    2   0.9068    -
2      cifar10    fixed            5      2   0.6154    -
2      cifar10    fixed            10     2   0.3082    -
2      cifar10    lsg              -      2   0.9441    -
3      cifar10    lsg              -      2   0.9441    0.0008
3      cifar10    lsg              -      4   0.9517    0.0005
3      cifar10    lsg              -      6   0.9552    0.0005
3      cifar100   lsg              -      2   0.7632    0.0012
3      cifar100   lsg              -      4   0.7685    0.0010
3      cifar100   lsg              -      6   0.7713    0.0007
"""
Figure = tuple[float, float | None]
Figures = dict[str, dict[tuple[str, str, float | None, int], Figure]]  # by table, then by data set, method, fixed width and T


def _number(text: str) -> float | None:
    return None if text == "-" else float(text)


def _figures() -> Figures:
    """Accuracy and standard deviation."""
    found: Figures = {}
    for line in REPORTED.strip().splitlines()[1:]:
        table, data, method, width, T, accuracy, std = line.split()
        found.setdefault(table, {})[data, method, _number(width), int(T)] = float(accuracy), _number(std)
    return found


FIGURES = _figures()
# The network and neurons of these values, which do not apply to others.
ARCH = {"cifar10": "resnet19", "cifar100": "resnet19", "cifar-dvs": "vggsnn"}
SETTINGS = {
    "width_multiplier": 1.0,
    "residual": "add",
    "depth": 19,
    "hidden_norm": False,
    "decay": 0.2,
    "threshold": 0.5,
    "surrogate": "rectangular",
    "decay_per": "layer",
    "neuron": "lif",
    "norm": "tdbn",
    "weight_bits": None,
    "dropout": 0.0,
    "reset": "hard",
    "detach_reset": False,
    "threshold_learned": False,
    "input_gain": "1",
    "init_potential": "zero",
}


def figure(config: RunConfig, table: str | None) -> Figure | None:
    """The value in the paper's ``table`` for the same network and data set, or None."""
    same = {**SETTINGS, "arch": ARCH.get(config.dataset)}
    if table not in FIGURES or any(getattr(config, name) != value for name, value in same.items()):
        return None
    return FIGURES[table].get((config.dataset, config.method, fixed_width(config), config.T))


def table_of(configs: Sequence[RunConfig]) -> str | None:
    """The first of the paper's tables that has a value for every row, or None."""
    return next((table for table in FIGURES if all(figure(config, table) for config in configs)), None)


def fixed_width(config: RunConfig) -> float | None:
    """The surrogate width alpha if the method keeps it fixed, otherwise None."""
    return config.width if traits("method", config.method).width.setting == "width" else None
