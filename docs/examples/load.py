"""Load a folded export of lsg with torch and safetensors only: ``Net("net.safetensors")(frames)`` are its logits."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch.nn import functional as F


class Net:  # noqa: D101
    def __init__(self, path):  # net.safetensors, or a folder of --format hf
        path = Path(path)
        with safe_open(path / "model.safetensors" if path.is_dir() else path, "pt") as file:
            self.config = json.loads(file.metadata()["lsg.config"])
            self.w = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        for name in [name for name in self.w if name.endswith("_scale")]:  # --quantize int8: integers and their scales
            weight, scale = name.removesuffix("_scale"), self.w[name]
            self.w[weight] = self.w[weight] * scale.view(-1, *(1,) * (self.w[weight].dim() - 1))
        self.v_th = self.config["model"]["neuron"].get("threshold", 0.5)

    def __call__(self, x):  # frames (T, B, C, H, W), or images (B, C, H, W) -> logits (T, B, classes)
        x = x if x.dim() == 5 else x.expand(self.config["model"]["T"], *x.shape)
        return {"vggsnn": self.vggsnn, "resnet19": self.resnet19}[self.config["arch"]](x)

    def vggsnn(self, x):
        for i, pool in enumerate((1, 2, 1, 2, 1, 2, 1, 2)):
            x = self.fire(f"features.{i}", x)
            x = F.avg_pool2d(x.flatten(0, 1), pool).unflatten(0, x.shape[:2])
        return self.linear("classifier", x.flatten(2))

    def resnet19(self, x):
        block = {"add": self.add, "sew": self.sew}[self.config["model"]["residual"]]
        x = self.fire("stem", x)
        for stage, (blocks, stride) in enumerate(((3, 1), (3, 2), (2, 2))):
            for i in range(blocks):
                x = block(f"stages.{stage}.{i}", x, stride if i == 0 else 1)
        return self.linear("classifier", self.lif("hidden_lif", self.linear("hidden", x.mean((3, 4)))))

    def add(self, name, x, stride):
        main = self.conv(f"{name}.second", self.fire(f"{name}.first", x, stride))
        shortcut = self.conv(f"{name}.shortcut", x, stride) if f"{name}.shortcut.conv.weight" in self.w else x
        return self.lif(f"{name}.lif", main + shortcut)

    def sew(self, name, x, stride):
        main = self.fire(f"{name}.second", self.fire(f"{name}.first", x, stride))
        return main + (self.fire(f"{name}.shortcut", x, stride) if f"{name}.shortcut.lif.b" in self.w else x)

    def fire(self, name, x, stride=1):
        return self.lif(f"{name}.lif", self.conv(f"{name}.current", x, stride))

    def conv(self, name, x, stride=1):
        w, b = self.w[f"{name}.conv.weight"], self.w[f"{name}.conv.bias"]
        return F.conv2d(x.flatten(0, 1), w, b, stride, padding=w.shape[-1] // 2).unflatten(0, x.shape[:2])

    def linear(self, name, x):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def lif(self, name, current):  # u[t] = beta u[t-1] (1 - o[t-1]) + I[t],  o[t] = u[t] >= v_th
        beta = self.w[f"{name}.b"].sigmoid().reshape(-1, *(1,) * (current.dim() - 3))  # per layer, or per channel
        u, spikes = torch.zeros_like(current[0]), []
        for now in current:
            u = beta * u * (u < self.v_th) + now
            spikes.append((u >= self.v_th).to(u.dtype))
        return torch.stack(spikes)
