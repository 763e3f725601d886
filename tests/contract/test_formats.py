"""What holds for every registered export format, whoever adds it."""

import ast
import dataclasses
import getpass
import itertools
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
import torch

import lsgcli
from lsgcli import registry
from lsgcli.errors import CheckpointError, ConfigError, GateError
from lsgcli.export.base import ExportOptions, Format, chosen
from lsgcli.export.verify import compare, verify
from tests.exports import NETWORKS, WAYS, by_ten_percent, exported, samples, saved, slow_if, traced

ROOT = Path(lsgcli.__file__).parents[1]
PLACES = [str(ROOT), str(Path.cwd()), str(Path.home()) + "/", sysconfig.get_paths()["purelib"], tempfile.gettempdir() + "/"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {which: saved(which, folder / f"{which}.safetensors", **shallow(which)) for which in NETWORKS}


def shallow(which):
    """Arguments with which a network has one block per stage."""
    return {"depth": 9} if which.startswith("resnet19") else {}


@pytest.fixture
def target(tmp_path):
    return lambda form: tmp_path / f"net{registry.get('format', form).suffix}"


@pytest.mark.parametrize("name", registry.names("format"))
def test_describes_itself(name):
    """A docstring and a page of its own; its options are options, with a default; it says how to install what it needs."""
    form = registry.get("format", name)
    assert issubclass(form, Format)
    assert form.__doc__
    page = (ROOT / "docs" / "export.md").read_text()
    assert "**Lost:**" in page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert form.options.keys() <= ExportOptions.__dataclass_fields__.keys()
    assert ("mode" in form.options) == bool(form.modes)
    assert bool(form.packages) == bool(form.extra)
    assert bool(form.suffix) == bool(form.magic) != form.folder
    chosen(name)


@pytest.mark.parametrize(
    ("which", "name", "mode"),
    [
        slow_if(traced(name, which) or mode == "step", which, name, mode)  # test_onnx.py has steps
        for which in NETWORKS
        for name, mode in WAYS
        if (which, mode) != ("resnet19-sew", "unroll")  # as long as that of resnet19-add
    ],
)
def test_is_the_same_network(which, name, mode, checkpoints, target, capfd):
    """Every spike that it shows, every logit, for batches of any size; it knows what it is, and names no place and no user.

    Nothing is said while it is written, neither on stdout, which is the result's, nor on stderr.
    """
    path = target(name)
    capfd.readouterr()
    found = exported(checkpoints[which], name, path, mode=mode)
    assert capfd.readouterr() == ("", "")
    form = registry.get("format", name)
    assert form.folder or re.match(form.magic, path.read_bytes(), re.DOTALL)
    runner = form().open(path)
    result = compare(found.written, runner, samples(found.content.config, 4, 1, 3))
    assert result["samples"] == 8
    assert result["per_layer"].keys() == found.content.config["export"]["layers"].keys()
    assert (result["spikes_different"], result["predictions_different"]) == (0, 0)
    assert result["ties"] <= 1  # as verify allows
    assert result["max_logit_error"] <= 1e-5
    assert runner.config == json.loads(json.dumps(found.content.config))
    assert next(other for other in registry.every("format").values() if other.recognises(path)) is form
    for file in [path] if path.is_file() else path.iterdir():
        content = file.read_bytes()
        assert content
        for place in [*PLACES, str(path.parent), f"/{getpass.getuser()}/"]:
            assert place.encode() not in content, file.name


@pytest.mark.parametrize(
    ("which", "name", "mode", "options"),
    [
        slow_if(name == "onnx", which, name, mode, options)
        for which in ("mlp", "resnet19-add")
        for name, mode in WAYS
        for options in ({"decay_per": "channel"}, {"norm": "none", "method": "adaptive"})
        if (which, mode) != ("resnet19-add", "unroll")
    ],
)
def test_a_decay_per_channel_and_no_normalisation(which, name, mode, options, tmp_path, target):
    checkpoint, path = saved(which, tmp_path / "checkpoint.safetensors", **options, **shallow(which)), target(name)
    found = exported(checkpoint, name, path, mode=mode)
    result = compare(found.written, registry.get("format", name)().open(path), samples(found.content.config, 4))
    assert result["spikes_compared"] > 0
    assert (result["spikes_different"], result["predictions_different"]) == (0, 0)
    assert result["ties"] <= 1  # as verify allows
    assert result["max_logit_error"] <= 1e-5


def one_weight(network, content):
    by_ten_percent(network)


def one_threshold(network, content):
    lif = network.spiking_layers()[1].lif
    lif.config = dataclasses.replace(lif.config, threshold=1.02 * lif.config.threshold)
    content.config["model"]["neuron"] = {**content.config["model"]["neuron"], "threshold": 0.51}  # where a format has it from


def one_decay(network, content):
    with torch.no_grad():
        network.spiking_layers()[1].lif.b += 0.1


@pytest.mark.parametrize(
    ("name", "mode", "fault"),
    [
        slow_if(name == "onnx", name, mode, fault)
        for name, mode in WAYS
        for fault in (one_weight, one_threshold, one_decay)
        if mode != "unroll" or fault is one_weight
    ],
)
def test_a_fault_is_caught(name, mode, fault, checkpoints, target):
    """One weight by 10 %, the threshold of one layer by 2 %, the decay of one layer by about 2 %."""
    path = target(name)
    found = exported(checkpoints["mlp"], name, path, mode=mode, faulty=fault)  # of few layers, so that it is traced quickly
    runner = registry.get("format", name)().open(path)
    with pytest.raises(GateError, match="the networks differ"):
        verify(found.trained, found.written, runner, samples(found.content.config, 16), "net")


@pytest.mark.parametrize(
    ("which", "name"),
    [
        slow_if(name == "onnx", which, name)
        for which in ("mlp", "resnet19-add")
        for name in registry.names("format")
        if "fold_bn" in registry.get("format", name).options
    ],
)
def test_without_folding(which, name, checkpoints, target):
    """tdBN as trained, where the format can."""
    path = target(name)
    found = exported(checkpoints[which], name, path, fold_bn=False)
    assert not found.content.config["folded"]
    result = compare(found.written, registry.get("format", name)().open(path), samples(found.content.config, 4))
    assert (result["spikes_different"], result["predictions_different"]) == (0, 0)
    assert result["max_logit_error"] <= 1e-5


@pytest.mark.parametrize(
    ("which", "name"),
    [slow_if(name == "onnx", which, name) for which in ("mlp", "resnet19-add") for name in registry.names("format")],
)
def test_other_timesteps(which, name, checkpoints, target):
    path = target(name)
    found = exported(checkpoints[which], name, path, T=2)
    runner = registry.get("format", name)().open(path)
    assert runner.T == 2
    batch = next(samples(found.content.config, 3))
    assert runner.run(batch.x).logits.shape == (2, 3, 10)
    assert found.content.config["export"]["trained_T"] == 3


@pytest.mark.parametrize("name", [name for name in registry.names("format") if registry.get("format", name).is_run])
def test_foreign_files(name, target):
    form, path = registry.get("format", name), target(name)
    if form.folder:
        path.mkdir()
    else:
        path.write_bytes(b"no such thing")
    with pytest.raises(CheckpointError, match="net"):
        form().open(path)


@pytest.mark.parametrize("name", [name for name in registry.names("format") if registry.get("format", name).packages])
def test_missing_packages(name, monkeypatch):
    """Without its extra a format names the packages and the line that installs them."""
    form = registry.get("format", name)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=form.packages[0]) as caught:
        form.check()
    assert f"pip install 'lsgcli[{form.extra}]'" in caught.value.hint


CODE = (Path(lsgcli.__file__).parents[1] / "docs" / "examples" / "load.py").read_text()


def test_is_short_and_imports_nothing_of_lsg():
    assert len(CODE.splitlines()) <= 65
    imports = [node for node in ast.walk(ast.parse(CODE)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} == {"json", "pathlib", "torch", "safetensors"}


QUANTIZE = {"layer": "int8", "channel": None}  # by what has a decay
# Each network with each kind of weights, each of which is in both formats.
CASES = list(itertools.product(("vggsnn", "resnet19-add", "resnet19-sew"), QUANTIZE))
CASES = [(*case, ("safetensors", "hf", "hf", "safetensors")[number % 4]) for number, case in enumerate(CASES)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Case -> (what was exported, samples, the logits of the documented loader), which runs in one process for all."""
    folder, found = tmp_path_factory.mktemp("loader"), {}
    for number, (which, decay_per, form) in enumerate(CASES):
        checkpoint = saved(which, folder / "checkpoint.safetensors", decay_per=decay_per)
        target = folder / (f"{number}.safetensors" if form == "safetensors" else f"{number}")
        export = exported(checkpoint, form, target, quantize=QUANTIZE[decay_per])
        x = next(samples(export.content.config, 5)).x
        torch.save((str(target), x), folder / f"{number}.x.pt")
        found[which, decay_per, form] = export, x
    script = (
        f"{CODE}\nimport sys\nassert 'lsgcli' not in sys.modules\ntorch.set_num_threads(1)\nfor i in range({len(CASES)}):\n"
    )
    script += "    path, x = torch.load(f'{i}.x.pt')\n    torch.save(Net(path)(x), f'{i}.y.pt')\n"
    subprocess.run([sys.executable, "-I", "-c", script], check=True, cwd=folder)
    return {case: (*made, torch.load(folder / f"{number}.y.pt")) for number, (case, made) in enumerate(found.items())}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_gives_equal_logits(case, loaded):
    found, x, y = loaded[case]
    with torch.no_grad():
        expected = found.written(x)
    assert y.shape == expected.shape
    assert torch.allclose(y, expected, rtol=0, atol=1e-6)
    assert expected.std() > 0.01
