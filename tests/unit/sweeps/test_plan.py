"""Which runs there are, and where."""

import shlex
from pathlib import Path

import pytest

from lsgcli.config.resolve import resolve
from lsgcli.config.run import option_name
from lsgcli.errors import ConfigError
from lsgcli.sweeps import paper
from lsgcli.sweeps.arguments import default_folder
from lsgcli.sweeps.arguments import plan as table_plan
from lsgcli.sweeps.collect import Collection
from lsgcli.sweeps.plan import Cell, Plan, folder_name, grid, load
from lsgcli.sweeps.statistics import rows
from tests import tiny
from tests.unit.sweeps.helpers import plan, record


def papers_rows(table, dataset, **settings):
    """Rows of one of the paper's tables, of runs with its recipe and some other settings."""
    variants = paper.variants(table, dataset)
    configs = [resolve({"recipe": "lsg", "dataset": dataset, **settings, **variant}, environment={}) for variant in variants]
    cells = [Cell(number, config, None, result=record(0.9)) for number, config in enumerate(configs)]
    return rows(cells, table)


def papers_column(table, dataset, **settings):
    return [row["paper"] for row in papers_rows(table, dataset, **settings)]


PLAIN = {"loss": "ce", "augment": "none"}


def test_papers_figures_stand_beside_their_own_settings():
    assert papers_column("1", "cifar10") == [0.9268, 0.9316, 0.9441]
    assert papers_column("1", "cifar100") == [0.7387, 0.7412, 0.7622]
    assert papers_column("1", "cifar-dvs", **PLAIN) == [0.7380, 0.7540, 0.7750]
    assert papers_column("2", "cifar10") == [0.9268, 0.9212, 0.9068, 0.6154, 0.3082, 0.9441]
    assert papers_column("3", "cifar10") == [0.9441, 0.9517, 0.9552]
    assert papers_column("3", "cifar100") == [0.7632, 0.7685, 0.7713]  # the two tables differ in the paper
    assert papers_column("3", "cifar-dvs") == [0.7790, 0.8370]
    assert [row["paper_std"] for row in papers_rows("3", "cifar-dvs")] == [0.0015, 0.0015]
    assert papers_column("1", "cifar10", threads=1, workers=0, seed=7) == [0.9268, 0.9316, 0.9441]
    assert papers_column("1", "digits") == [None] * 3


@pytest.mark.parametrize(
    "other",
    [
        *({"width_multiplier": 0.5}, {"T": 4}, {"residual": "sew"}, {"surrogate": "atan"}, {"norm": "bn"}, {"reset": "soft"}),
        *({"arch": "vggsnn"}, {"epochs": 5}, {"batch_size": 64}, {"lr": 0.05}, {"augment": "none"}, {"size": 16}),
        *({"loss": "tet"}, {"optimizer": "adamw"}, {"val_fraction": 0.1}, {"weight_decay": 1e-4}, {"ema": 0.9}),
    ],
)
def test_beside_other_settings_stands_what_differs(other):
    (name, value), *_ = other.items()
    theirs = getattr(resolve({"recipe": "lsg", "dataset": "cifar10"}, environment={}), name)
    found = papers_rows("1", "cifar10", **other)
    assert [row["paper"] for row in found] == [row["paper_std"] for row in found] == [None] * 3
    assert [row["paper_other"] for row in found] == [0.9268, 0.9316, 0.9441]
    assert all(f"{option_name(name)} {theirs} instead of {value}" in row["paper_differs"] for row in found)


def test_a_note_says_what_differs_once():
    """TET, augmentation, a size of 16 and one epoch are not the paper's Table 1 on CIFAR10-DVS."""
    variants = [{"dataset": "cifar-dvs", "size": 16, "epochs": 1, **variant} for variant in paper.variants("1", "cifar-dvs")]
    configs = [resolve({"recipe": "lsg", **variant}, environment={}) for variant in variants]
    cells = [Cell(number, config, Path(f"row{number}"), result=record(0.5)) for number, config in enumerate(configs)]
    summary = Collection(cells, "1").summary()
    assert [row["paper"] for row in summary["rows"]] == [None] * 3
    (note,) = [note for note in summary["notes"] if "paper" in note]
    assert "Table 1 has 73.80 (fixed), 75.40 (trainable-decay), 77.50 (lsg)" in note
    differences = ("--loss ce instead of tet", "--augment none instead of flip,roll", "--size 48 instead of 16")
    assert all(text in note for text in (*differences, "--epochs 100 instead of 1"))
    plain = [config.replace(size=48, epochs=100, **PLAIN) for config in configs]
    cells = [Cell(number, config, Path(f"row{number}"), result=record(0.5)) for number, config in enumerate(plain)]
    assert not [note for note in Collection(cells, "1").summary()["notes"] if "paper" in note]


def test_every_figure_of_the_paper_has_a_place():
    found = {(one.table, one.dataset): [] for one in paper.RESULTS}
    for one in paper.RESULTS:
        found[one.table, one.dataset].append(one.accuracy)
    assert found == {
        ("1", "cifar10"): [0.9268, 0.9316, 0.9441],
        ("1", "cifar100"): [0.7387, 0.7412, 0.7622],
        ("1", "cifar-dvs"): [0.7380, 0.7540, 0.7750],
        ("2", "cifar10"): [0.9212, 0.9268, 0.9068, 0.6154, 0.3082, 0.9441],
        ("3", "cifar10"): [0.9441, 0.9517, 0.9552],
        ("3", "cifar100"): [0.7632, 0.7685, 0.7713],
        ("3", "cifar-dvs"): [0.7790, 0.8370],
        ("text", "cifar10"): [0.9489],
    }


def test_table_3_of_recordings(tmp_path):
    """A T of its own, without and with TET and augmentation."""
    planned = table_plan({"dataset": "cifar-dvs"}, "3", [], "0", None, tmp_path, elsewhere=True)
    rows_of_it = [(config.method, config.T, config.loss, config.augment) for _, config in planned.rows]
    assert rows_of_it == [("lsg", 10, "ce", "none"), ("lsg", 10, "tet", "flip,roll")]
    others = table_plan({"dataset": "digits"}, "3", [], "0", None, tmp_path, elsewhere=True)
    assert [config.T for _, config in others.rows] == [2, 4, 6]


def test_the_papers_table_is_recognised():
    configs = [resolve({"recipe": "lsg", "dataset": "cifar10", **v}, environment={}) for v in paper.TABLES["3"]]
    assert paper.table_of(configs) == "3"
    assert paper.table_of([*configs, tiny.config()]) is None
    assert paper.table_of([config.replace(epochs=5) for config in configs]) is None


def test_cells_are_found_again_and_settings_matter():
    variants = grid({"method": ["lsg", "fixed"], "T": [2, 4, 2]})  # a value given twice is one row

    def cells(seeds, **changes):
        configs = [tiny.config(**{**changes, **variant}) for variant in variants]
        return Plan(default_folder(configs), tuple(zip(variants, configs, strict=True)), seeds).cells()

    first = cells((0, 1))
    assert len({cell.path for cell in first}) == 8
    assert [(cell.config.method, cell.config.T) for cell in first[:4]] == [("lsg", 2), ("lsg", 4), ("fixed", 2), ("fixed", 4)]
    assert [cell.path for cell in cells((0, 1), workers=5, data_dir="elsewhere")] == [cell.path for cell in first]
    assert not {cell.path for cell in cells((0, 1), lr=0.2)} & {cell.path for cell in first}
    more_seeds = cells((1, 2))
    assert {c.path for c in more_seeds} & {c.path for c in first} == {c.path for c in first if c.config.seed == 1}


def test_names_of_directories_need_no_quotes():
    variants = [{"method": "fixed", "width": 0.5}, {"augment": "a b/c'd"}, {"lr": 1e-05}]
    names = [folder_name(variant) for variant in variants]
    assert names == ["method=fixed-width=0.5", "augment=a_b_c_d", "lr=1e-05"]
    assert all(shlex.quote(name) == name for name in names)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    variants = {"method": "fixed", "width": 0.5}, {"method": "lsg", "width": 1.0}
    written = plan(tmp_path / "abl", *variants, seeds=(3, 1), table="2", workers=2)
    written.save()
    assert load(tmp_path / "abl") == written
    assert load(tmp_path) is None
    (tmp_path / "ablation.json").write_text("{")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert "Delete the file" in caught.value.hint
    plan(tmp_path / "abl", *variants, data_dir="/home/somebody").save()
    assert "somebody" not in (tmp_path / "abl" / "ablation.json").read_text()
