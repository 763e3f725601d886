"""The loader in the documentation: plain torch and safetensors, and the same logits."""

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lsgcli
from tests.exports import exported, samples, saved

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
