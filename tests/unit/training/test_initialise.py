"""Starting from the weights of another run: what is taken by name, what starts new, and which files are refused."""

import json
from dataclasses import replace

import pytest
import torch

from lsgcli.errors import CheckpointError, RunInUseError, Stopped
from lsgcli.runs import checks
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.sweeps.arguments import default_folder
from lsgcli.sweeps.cells import check_same
from lsgcli.sweeps.plan import Cell
from lsgcli.training.initialise import initialise, new_model
from tests import tiny
from tests.unit.training.test_loop import run as train
from tests.unit.training.test_loop import same_tensors


def begun(source, classes=tiny.CLASSES, channels=2, **changes):
    """A new network of another seed, what it took, and its state before."""
    config = tiny.config(seed=7, init_from=str(source), **changes)
    model = new_model(config, len(classes), channels)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    return model.state_dict(), initialise(model, config, classes)["init_from"], before


def test_everything_is_taken_where_everything_fits(source):
    state, record, _ = begun(source)
    weights = checkpoint.read(source).weights
    assert state.keys() == weights.keys() == set(record["taken"])
    assert all(torch.equal(state[name], weights[name]) for name in weights)
    assert record["new"] == record["unused"] == {}
    assert record["sha256"] == checkpoint.tensor_digest({**weights, **checkpoint.read(source).extra})


FIRST, LAST, BIAS = "features.0.current.conv.weight", "classifier.weight", "classifier.bias"


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [
        *(
            ({"classes": names}, {LAST: [len(names), 32], BIAS: [len(names)]})  # by name and order, not by number alone
            for names in (("left", "right", "bottom"), ("left", "right"), ("right", "left", "top"))
        ),
        ({"channels": 3}, {FIRST: [4, 3, 3, 3]}),
        ({"size": 32}, {LAST: [3, 128]}),
    ],
    ids=str,
)
def test_what_does_not_fit_starts_new(source, changes, shapes):
    """The last layer with other classes or another size, the first layer with other channels."""
    state, record, before = begun(source, **changes)
    there = {FIRST: [4, 2, 3, 3], LAST: [3, 32], BIAS: [3]}
    assert record["new"] == {name: {"shape": shape, "found": there[name]} for name, shape in shapes.items()}
    kept = {name for name in there if torch.equal(state[name], before[name])}
    assert kept == shapes.keys()


def test_decays_are_taken_whatever_the_method(source):
    """Where they are fixed they stay at what was learned; what a method measures starts new."""
    learned = checkpoint.read(source).weights["features.3.lif.b"]
    assert abs(learned.sigmoid() - 0.2) > 1e-3
    for method, new in (("fixed", 0), ("trainable-decay", 0), ("measured-sigma", 8)):
        state, record, _ = begun(source, method=method)
        assert torch.equal(state["features.3.lif.b"], learned)
        assert len(record["new"]) == new


def test_one_decay_for_every_channel(source):
    state, _, _ = begun(source, decay_per="channel")
    learned = checkpoint.read(source).weights["features.3.lif.b"]
    assert torch.equal(state["features.3.lif.b"], learned.expand(16))


def test_another_number_of_timesteps(untrained):
    """Factors and thresholds per timestep start new, with all else taken."""
    settings = {"norm": "tebn", "method": "ds-atgo"}
    _, record, _ = begun(untrained(**settings), **settings, T=5)
    names = ("current.norm.p", "lif.theta")
    assert record["new"] == {f"features.{i}.{name}": {"shape": [5], "found": [3]} for i in range(8) for name in names}


def test_resumes_to_the_bit_without_the_file(source, tmp_path):
    mine = tmp_path / "source.safetensors"
    mine.write_bytes(source.read_bytes())
    config, bundle = tiny.config(init_from=str(mine), epochs=1), tiny.bundle()
    train(tmp_path / "whole", config, bundle)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", config, bundle, stop_after=2)
    mine.unlink()
    checks.check(config, fresh=False)
    train(tmp_path / "parts", config, bundle, resume=True)
    assert same_tensors(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")
    stored = checkpoint.read_config(tmp_path / "parts" / "last.safetensors")
    assert stored["settings"]["init_from"] is None  # where files lie does not travel
    assert stored["sources"]["init_from"]["sha256"] == checkpoint.read_digest(source)


def test_cells_are_told_apart_by_the_content_of_the_checkpoint(source, tmp_path):
    """Not by its path: another path to the same file is the same run, another file at the same path is not."""
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    for path in (one, other):
        path.write_bytes(source.read_bytes())
    configs = [tiny.config(init_from=str(path)) for path in (one, other)]
    assert default_folder(configs[:1]) == default_folder(configs[1:])
    (tmp_path / "cell").mkdir()
    sources = {"init_from": {"sha256": checkpoint.read_digest(one)}}
    record = {"schema": "lsg.run/1", "settings": configs[0].to_dict(), "sources": sources}
    (tmp_path / "cell" / "config.json").write_text(json.dumps(record))
    check_same(Cell(0, configs[1], tmp_path / "cell"))
    content = checkpoint.read(source)
    checkpoint.save(other, Checkpoint(content.weights, content.config))  # without the optimiser's tensors
    assert default_folder(configs[:1]) != default_folder(configs[1:])
    with pytest.raises(RunInUseError, match="--init-from"):
        check_same(Cell(0, configs[1], tmp_path / "cell"))


def test_what_is_not_used_is_recorded(untrained):
    _, record, _ = begun(untrained(method="measured-sigma"))
    assert record["unused"] == {f"features.{i}.lif.sigma": [] for i in range(8)}


def test_decays_of_channels_are_not_averaged(untrained):
    path = untrained(decay_per="channel")
    with pytest.raises(CheckpointError, match=r"features\.0\.lif\.b: found shape \[4\], expected shape \[\]"):
        begun(path)


def test_classes_of_the_data_decide(source, tmp_path):
    """In a whole run, whose data have other class names."""
    events, bundle = [], replace(tiny.bundle(), classes=("a", "b", "c"))
    train(tmp_path / "run", tiny.config(epochs=1, init_from=str(source)), bundle, emit=events.append)
    assert set(events[0]["sources"]["init_from"]["new"]) == {LAST, BIAS}
