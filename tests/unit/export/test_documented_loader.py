"""The loader in the documentation: plain torch and safetensors, and the same logits."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lsgcli
from tests.exports import exported, samples, saved

PAGE = Path(lsgcli.__file__).parents[1] / "docs" / "export" / "safetensors.md"
CODE = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


def test_is_short_and_imports_nothing_of_lsg():
    assert len(CODE.splitlines()) <= 65
    imports = [node for node in ast.walk(ast.parse(CODE)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} == {"json", "pathlib", "torch", "safetensors"}


@pytest.mark.parametrize("form", ["safetensors", "hf"])
@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add", "resnet19-sew"])
@pytest.mark.parametrize(("decay_per", "quantize"), [("layer", "int8"), ("channel", None)])
def test_gives_equal_logits(which, decay_per, quantize, form, tmp_path):
    target = tmp_path / ("net.safetensors" if form == "safetensors" else "folder")
    found = exported(saved(which, tmp_path / "checkpoint.safetensors", decay_per=decay_per), form, target, quantize=quantize)
    x = next(samples(found.content.config, 5)).x
    torch.save(x, tmp_path / "x.pt")
    script = f"{CODE}\nimport sys\nassert 'lsgcli' not in sys.modules\n"
    script += f"torch.set_num_threads(1)\ntorch.save(Net({str(target)!r})(torch.load('x.pt')), 'y.pt')"
    subprocess.run([sys.executable, "-I", "-c", script], check=True, cwd=tmp_path)
    with torch.no_grad():
        expected = found.written(x)
    y = torch.load(tmp_path / "y.pt")
    assert y.shape == expected.shape
    assert torch.allclose(y, expected, rtol=0, atol=1e-6)
    assert expected.std() > 0.01
