"""lsg export in every format, its gates and refusals, and lsg eval of what was exported."""

import copy
import errno
import json
import resource
import signal
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.models import fold as fold_module
from lsgcli.store import checkpoint
from lsgcli.system import device as compute
from tests.cli.conftest import CONVOLUTIONS
from tests.exports import WAYS, by_ten_percent, exported, saved, slow_if

WRITTEN = [slow_if(form == "onnx", form) for form in registry.names("format")]  # the others take seconds


@pytest.fixture
def export(lsg, trained, images):
    """Export the trained network, or another: ``export("onnx", "out.onnx", *options)`` -> result."""

    def run(form, target, *options, path=trained / "best.safetensors", status=None):
        data = ["--data-dir", images] if "--verify" in options else []
        return lsg("export", path, "--format", form, "-o", target, *data, *options, status=status)

    return run


@pytest.fixture(scope="session")
def mlp(tmp_path_factory):
    """A checkpoint that every format exports quickly."""
    return saved("mlp", tmp_path_factory.mktemp("mlp") / "mlp.safetensors", width_multiplier=1 / 4)


def test_folded_and_verified(lsg, export, trained, images, tmp_path):
    """As a checkpoint; a second export takes it."""
    result = export("safetensors", "out.safetensors", "--verify", "18", "--json", status=0)
    record = json.loads(result.stdout)
    assert (record["format"], record["path"], record["samples"]) == ("safetensors", "out.safetensors", 18)
    assert (record["spikes_different"], record["predictions_different"]) == (0, 0)
    assert record["max_logit_error"] <= 1e-5
    assert record["spikes_compared"] > 1000
    assert record["folding"]["spikes_compared"] == record["spikes_compared"]
    assert f"0 of {record['spikes_compared']} spikes and 0 of 18 predictions differ" in result.stderr
    weights = load_file(tmp_path / "out.safetensors")
    assert not any("norm" in name or name.startswith("optim/") for name in weights)
    assert lsg("export", "out.safetensors", "-o", "again.safetensors").exit_code == 0


def test_an_export_that_is_not_verified_claims_no_error(export):
    record = json.loads(export("safetensors", "out.safetensors", "--json").stdout)
    assert (record["samples"], record["spikes_compared"], record["max_logit_error"]) == (0, 0, None)


@pytest.mark.parametrize(("form", "mode"), [slow_if(mode, form, mode) for form, mode in WAYS])
def test_every_format_is_verified_and_evaluated(lsg, export, trained, images, form, mode, tmp_path):
    """What eval says of an export that it runs is what it says of the checkpoint; and no path of the machine is in it."""
    options = ["--mode", mode] if mode else []
    target = f"out{registry.get('format', form).suffix}"
    result = export(form, target, *options, "--verify", "18", "--json", "-q", status=0)
    record = json.loads(result.stdout)
    assert record["samples"] == 18
    assert (record["spikes_different"], record["predictions_different"]) == (0, 0)
    assert record["max_logit_error"] <= 1e-5
    for file in [tmp_path / target] if (tmp_path / target).is_file() else (tmp_path / target).iterdir():
        content = file.read_bytes()
        assert not any(str(place).encode() in content for place in (images, trained, tmp_path))
    if not registry.get("format", form).is_run and form != "safetensors":
        assert lsg("eval", target, "--data-dir", images).exit_code == 4
        return
    command = ["--data-dir", images, "--json", "-q", "--batch-size", "7", "--precision", "fp32"]
    ours = json.loads(lsg("eval", trained / "best.safetensors", *command).stdout)
    theirs = json.loads(lsg("eval", target, *command).stdout)
    assert theirs["confusion"] == ours["confusion"]
    assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-5)
    assert theirs["firing_rate"] == pytest.approx(ours["firing_rate"], abs=1e-9)
    assert record["accuracy"] == ours["accuracy"]
    lsg("eval", target, "--data-dir", images, "-q", status=0)


@pytest.mark.parametrize(
    ("target", "function", "error"),
    [
        ("out.nir", "nir.read", MemoryError()),
        ("out.safetensors", "lsgcli.models.build", RuntimeError("DefaultCPUAllocator: can't allocate memory")),
        ("out.safetensors", "lsgcli.store.checkpoint.safe_open", OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
)
def test_too_little_memory_is_not_the_fault_of_a_file(lsg, export, target, function, error, monkeypatch):
    export(target.split(".")[1], target)
    monkeypatch.setattr(function, mock.Mock(side_effect=error))
    result = lsg("eval", target, status=8)
    assert "not enough memory" in result.stderr


@pytest.mark.parametrize("form", WRITTEN)
def test_a_fault_is_caught_and_nothing_is_left(export, form, tmp_path, monkeypatch):
    """One weight of the first convolution by 10 %, planted in what is written."""
    kind = registry.get("format", form)
    write = kind.write

    def broken(self, network, content, path, options):
        network = copy.deepcopy(network)
        by_ten_percent(network, layer=0)
        content.weights = network.state_dict()
        write(self, network, content, path, options)

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(kind, "write", broken)
    result = export(form, "out" + kind.suffix, "--verify", "8", status=9)
    assert "the networks differ" in result.stderr
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "cache"] == before


def test_a_wrong_fold_is_caught(export, tmp_path, monkeypatch):
    fold = fold_module.fold_in_place

    def wrong(network):
        folded = fold(network)
        with torch.no_grad():
            folded.spiking_layers()[1].synapse.weight[0] *= 1.1
        return folded

    monkeypatch.setattr(fold_module, "fold_in_place", wrong)
    result = export("safetensors", "out2.safetensors", "--verify", "8", status=9)
    assert "folding" in result.stderr
    assert not (tmp_path / "out2.safetensors").exists()


@pytest.mark.parametrize("form", WRITTEN)
def test_a_full_disk(export, mlp, form, tmp_path):
    """A file may not grow beyond 4 kB here: status 7, and nothing half-written."""
    target = "out" + registry.get("format", form).suffix
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        result = export(form, target, path=mlp)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.exit_code == 7, result.stderr
    assert target in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_suffix_in_capitals(lsg, mlp, tmp_path):
    assert lsg("export", mlp, "-o", "net.NIR").exit_code == 0
    assert lsg("eval", "net.NIR").exit_code == 3  # read, but trained on other classes than those of the data


def test_where_something_is(export, mlp, tmp_path):
    """A folder that holds something is never replaced; an earlier export is, with --force, whole."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "README.md").write_text("mine")
    assert export("hf", "full", "--force").exit_code == 2
    assert (tmp_path / "full" / "README.md").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export("hf", "empty").exit_code == 0
    for form, other in (("nir", ("--dt", "0.002")), ("safetensors", ("-T", "2"))):
        file = tmp_path / f"net.{form}"
        assert export(form, file, path=mlp).exit_code == 0
        first = file.read_bytes()
        refused = export(form, file, *other, path=mlp)
        assert (refused.exit_code, "the file exists" in refused.stderr) == (2, True)
        assert file.read_bytes() == first
        assert export(form, file, *other, "--force", path=mlp).exit_code == 0
        assert file.read_bytes() != first
    assert checkpoint.read_config(tmp_path / "net.safetensors")["model"]["T"] == 2


def test_folder_for_a_hub(export, trained, tmp_path):
    result = export("hf", "net", "--verify", "18", "--json", "-q")
    record = json.loads(result.stdout)
    folder = tmp_path / "net"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config == checkpoint.load(folder / "model.safetensors")[1]
    assert list(config["export"]["layers"]) == [f"conv{i}" for i in range(1, 9)]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "# vggsnn on image-folder" in card
    assert f"Accuracy {record['accuracy']:.4f} on 18 samples from the test part" in card
    assert "0 of 18 predictions differ" in card
    measured = json.loads((trained / "result.json").read_text())
    measured = measured.get("test_accuracy_best_fp32", measured["test_accuracy_best"])
    assert f"Accuracy {measured:.4f} on the whole test part (training)." in card
    assert len(list(folder.iterdir())) == 3


def test_card_without_measurements(lsg, tmp_path):
    assert lsg("export", saved("resnet19-add", tmp_path / "c.safetensors"), "--format", "hf", "-o", "net").exit_code == 0
    assert "No results: exported without `--verify`." in (tmp_path / "net" / "README.md").read_text()


def test_card_of_integers(lsg, tmp_path):
    for name, options in (("floats", {"neuron": "glif"}), ("trained", {"weight_bits": 8})):
        path = saved("mlp", tmp_path / f"{name}.safetensors", width_multiplier=1 / 4, **options)
        assert lsg("export", path, "--format", "hf", "--quantize", "int8", "-o", name).exit_code == 0
        card = (tmp_path / name / "README.md").read_text()
        assert "| weights | integers of 8 bits, with a scale per output channel |" in card
        assert f"| neurons | {options.get('neuron', 'lif')}, method lsg;" in card


@pytest.mark.parametrize("T", [2, 5])
@pytest.mark.parametrize("form", ["safetensors", "hf"])
def test_another_number_of_timesteps(lsg, tmp_path, form, T):
    """Values per timestep continue with the last one, as in `lsg eval -T`; TEBN has none for further timesteps."""
    for options in ({"method": "ds-atgo"}, {"neuron": "glif"}):
        path = saved("mlp", tmp_path / "c.safetensors", **options)
        target = "-".join(options) + (".safetensors" if form == "safetensors" else "")
        lsg("export", path, "--format", form, "-o", target, "-T", str(T), status=0)
        written, config = checkpoint.load(tmp_path / target / ("model.safetensors" if form == "hf" else ""))
        before = checkpoint.load(path)[0]
        assert config["model"]["T"] == written.T == T
        x = torch.rand(T, 4, *(getattr(before.spec, name) for name in ("in_channels", "height", "input_size")))
        assert torch.allclose(written(x), before(x), atol=1e-5)
    path, target = saved("vggsnn", tmp_path / "t.safetensors", norm="tebn"), target.replace("neuron", "tebn")
    refused = lsg("export", path, "--format", form, "-o", target, "-T", str(T))
    assert (refused.exit_code, f"-T: found {T} with --norm tebn, expected 3" in refused.stderr) == (2, True)
    assert not (tmp_path / target).exists()


def test_a_changed_configuration_beside_the_weights(lsg, tmp_path):
    exported(saved("vggsnn", tmp_path / "c.safetensors"), "hf", tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    config["model"]["neuron"]["threshold"] = 0.7
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    result = lsg("eval", tmp_path / "net", status=4)
    assert "found a configuration that differs" in result.stderr


@pytest.fixture
def exact_integers():
    """Skip where the processor cannot multiply bytes exactly."""
    try:
        compute.pick_precision("int8", torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(error.message)


def test_train_with_few_bits_from_floats_then_evaluate_and_export(exact_integers, lsg, train, trained, images, lines, tmp_path):
    few = ["--weight-bits", "4", "--init-from", trained / "best.safetensors"]
    train(*CONVOLUTIONS, *few, "--epochs", "1", "--out", "run", "-q", status=0)
    best = tmp_path / "run" / "best.safetensors"
    assert checkpoint.read_config(best)["model"]["weight_bits"] == 4
    command = ["--data-dir", images, "--json", "-q"]
    lsg("export", best, "--quantize", "int8", "-o", "out.safetensors", "--data-dir", images, "--verify", "18", "-q", status=0)
    whole = [json.loads(lsg("eval", path, *command, "--precision", "int8").stdout) for path in (best, "out.safetensors")]
    floats = json.loads(lsg("eval", "out.safetensors", *command).stdout)
    assert whole[0] | {"samples_per_s": 0} == whole[1] | {"samples_per_s": 0}
    assert floats["confusion"] == whole[0]["confusion"]
    assert floats["loss"] == pytest.approx(whole[0]["loss"], abs=1e-5)
    predicted = lsg("predict", best, images / "test", "--precision", "int8", "--json", "-q", status=0)
    assert len(lines(predicted.stdout)) == 18
