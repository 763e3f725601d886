"""The tutorial's commands, and the network and width rule that the how-to pages show."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from lsgcli import models, registry
from lsgcli.neurons.methods import LayerState

DOCS = Path(__file__).parents[2] / "docs"


def test_own_network_and_width_rule(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    for name in ("my_network", "my_width_rule"):
        runpy.run_path(str(DOCS / "plugins" / f"{name}.py"))
    net = models.build("small", method="growing", width_multiplier=0.5, num_classes=7)
    net(torch.rand(4, 2, 2, 32, 32)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in net.parameters() if parameter.requires_grad)
    one = torch.ones(())
    alpha = registry.get("method", "growing")().alpha(LayerState(3, 0.5, 0.3 * one, one, one))
    assert alpha.tolist() == pytest.approx([1.0, 1.09**0.5, (1.09 + 0.0081) ** 0.5])


@pytest.mark.slow(first=True)
def test_tutorial(tmp_path):
    """Every command of the page, in its order, in an empty folder; the files that it names exist at the end."""
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    (tmp_path / "classify.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    commands = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("python classify.py", "python ../classify.py")
    path = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tensor([[") == 1
    for line in ("first/best.safetensors", "digits.pt2", "sheet.png"):
        assert line in done.stdout.splitlines()
    here = tmp_path / "lsg-tutorial"
    for name in ("first/report.html", "figures/coverage.png", "charts/accuracy.svg", "figure.svg", "ablation/ablation.json"):
        assert (here / name).is_file(), name
    with Image.open(here / "sheet.png") as found, Image.open(DOCS / "images" / "sheet.png") as shown:
        assert found.size == shown.size
