"""A small trainer around a spiking perceptron with learnt decays and thresholds."""
from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import numpy as np
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


@dataclass
class Config:
    seed: int = 3
    hidden: int = 96
    steps: int = 12
    epochs: int = 6
    batch: int = 48
    lr: float = 4e-3
    weight_decay: float = 1e-4
    gamma: float = 0.8


def set_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Perceptron(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.steps = cfg.steps
        self.inp = nn.Linear(64, cfg.hidden)
        self.norm = nn.BatchNorm1d(cfg.hidden)
        self.hid = snn.Leaky(beta=torch.full((cfg.hidden,), 0.85), learn_beta=True, threshold=1.0, learn_threshold=True)
        self.out = nn.Linear(cfg.hidden, 10)
        self.readout = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x: Tensor) -> Tensor:
        drive = self.norm(self.inp(x))
        u, v = self.hid.init_leaky(), self.readout.init_leaky()
        total = 0.0
        for _ in range(self.steps):
            s, u = self.hid(drive, u)
            _, v = self.readout(self.out(s), v)
            total = total + v
        return total / self.steps


class Trainer:
    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.model = Perceptron(cfg)
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.sched = torch.optim.lr_scheduler.ExponentialLR(self.optim, gamma=cfg.gamma)
        self.criterion = nn.CrossEntropyLoss()
        self.best = (0.0, copy.deepcopy(self.model.state_dict()))

    def load(self) -> None:
        bunch = load_digits()
        order = np.random.permutation(len(bunch.target))
        x = torch.as_tensor(bunch.data[order], dtype=torch.float32) / 16
        y = torch.as_tensor(bunch.target[order])
        self.train_x, self.train_y = x[:1200], y[:1200]
        self.val_x, self.val_y = x[1200:1500], y[1200:1500]
        self.test_x, self.test_y = x[1500:], y[1500:]

    def epoch(self) -> float:
        self.model.train()
        losses = []
        for idx in torch.randperm(len(self.train_y)).split(self.cfg.batch):
            loss = self.criterion(self.model(self.train_x[idx]), self.train_y[idx])
            self.optim.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optim.step()
            losses.append(loss.item())
        self.sched.step()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor) -> float:
        self.model.eval()
        return (self.model(x).argmax(1) == y).float().mean().item()

    def fit(self) -> None:
        for number in range(self.cfg.epochs):
            mean = self.epoch()
            acc = self.accuracy(self.val_x, self.val_y)
            if acc > self.best[0]:
                self.best = (acc, copy.deepcopy(self.model.state_dict()))
            print(f"epoch {number + 1}/{self.cfg.epochs}  loss {mean:.4f}  val {acc:.3f}")
        self.model.load_state_dict(self.best[1])


if __name__ == "__main__":
    config = Config()
    set_seed(config.seed)
    trainer = Trainer(config)
    trainer.load()
    trainer.fit()
    print("test", round(trainer.accuracy(trainer.test_x, trainer.test_y), 4))
