"""Which runs there are, and where."""

import shlex

import pytest

from lsgcli.config.fields import fields_of
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.run import FIELDS
from lsgcli.errors import ConfigError
from lsgcli.models.base import NetworkSpec
from lsgcli.sweeps import paper
from lsgcli.sweeps.arguments import default_folder
from lsgcli.sweeps.plan import Cell, Plan, folder_name, grid, load
from lsgcli.sweeps.statistics import rows
from tests import tiny
from tests.unit.sweeps.helpers import plan, record


def papers_column(table, **settings):
    """What the paper reports, in the rows of one of its tables under some settings."""
    base = tiny.config(**{"arch": "resnet19", "width_multiplier": 1.0, "T": 2, **settings})
    cells = [Cell(row, base.replace(**variant), None) for row, variant in enumerate(paper.TABLES[table])]
    return [row["paper"] for row in rows(cells, [record(0.9)] * len(cells), table)]


def test_papers_figures_stand_beside_the_same_network_only():
    assert papers_column("2", dataset="cifar10") == [0.9268, 0.9212, 0.9068, 0.6154, 0.3082, 0.9441]
    assert papers_column("1", dataset="cifar100") == [0.7387, 0.7412, 0.7622]
    assert papers_column("3", dataset="cifar100") == [0.7632, 0.7685, 0.7713]  # the two tables differ in the paper
    assert papers_column("1", dataset="cifar-dvs", arch="vggsnn", T=10) == [0.7380, 0.7540, 0.7750]
    network = ({"width_multiplier": 0.5}, {"arch": "vggsnn"}, {"T": 4}, {"residual": "sew"}, {"surrogate": "atan"})
    for other in (*network, {"norm": "bn"}, {"reset": "soft"}, {"neuron": "clif"}):
        assert papers_column("1", **{"dataset": "cifar10", **other}) == [None, None, None]


def test_every_setting_of_network_and_neurons_is_compared():
    """What is trained differently is not what the paper reports, whatever settings come."""
    settings = (fields_of(NetworkSpec).keys() | fields_of(NeuronConfig).keys()) & FIELDS.keys()
    in_tables = {"arch", "method", "width", "T"}
    # The same results; of asgl, of other neurons and methods, of transformers, and with dropout alone.
    of_others = {"smooth", "width_as", "carry_m", "order", "input_correlation", "mlp_ratio"}
    without_influence = {"backend", "dropout_at", *of_others}
    assert settings - in_tables - without_influence == paper.SETTINGS.keys()


def test_the_papers_spread_is_that_of_table_3():
    configs = [tiny.config(dataset="cifar10", arch="resnet19", width_multiplier=1.0, **v) for v in paper.TABLES["3"]]
    assert [paper.figure(config, "3") for config in configs] == [(0.9441, 0.0008), (0.9517, 0.0005), (0.9552, 0.0005)]
    assert paper.table_of(configs) == "3"
    assert paper.table_of([*configs, tiny.config()]) is None


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
