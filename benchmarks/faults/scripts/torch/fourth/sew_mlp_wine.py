"""Deep residual spiking network (SEW: spikes are added) for a table, here wine; three folds."""
from __future__ import annotations

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class SG(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v.ge(0.0).to(v)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * v).square())


class PLIF(nn.Module):
    """Input [T, N, F]."""

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        self.w = nn.Parameter(-torch.log(torch.tensor(tau - 1)))

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for x_t in x:
            v = v + (x_t - v) * self.w.sigmoid()
            s = SG.apply(v - 1.0)
            v = v * (1 - s.detach())
            spikes.append(s)
        return torch.stack(spikes)


class Norm(nn.Module):
    """Batch normalisation over time and batch."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x.flatten(0, 1)).view_as(x)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), Norm(width), PLIF(), nn.Linear(width, width), Norm(width), PLIF())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x


class Net(nn.Module):
    def __init__(self, n_in: int, n_out: int, width: int = 32, depth: int = 3, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.stem = nn.Sequential(nn.Linear(n_in, width), Norm(width), PLIF())
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, n_out)
        self.apply(self._init)

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.steps, 1, 1)
        return self.head(self.blocks(self.stem(x)).mean(0))


class Trainer:
    def __init__(self, model: nn.Module, lr: float, epochs: int) -> None:
        self.model = model
        self.epochs = epochs
        self.opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
        self.sched = torch.optim.lr_scheduler.OneCycleLR(self.opt, max_lr=lr, total_steps=epochs)

    def fit(self, loader: DataLoader) -> None:
        self.model.train()
        for _ in range(self.epochs):
            for x, y in loader:
                self.opt.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(self.model(x), y, label_smoothing=0.05).backward()
                self.opt.step()
            self.sched.step()

    @torch.no_grad()
    def score(self, loader: DataLoader) -> float:
        self.model.eval()
        hits = sum(int((self.model(x).argmax(1) == y).sum()) for x, y in loader)
        return hits / len(loader.dataset)


def main() -> None:
    torch.manual_seed(2)
    x, y = load_wine(return_X_y=True)
    scores = []
    for fold, (train_rows, test_rows) in enumerate(StratifiedKFold(3, shuffle=True, random_state=0).split(x, y)):
        mean, std = x[train_rows].mean(0), x[train_rows].std(0)
        scaled = torch.tensor((x - mean) / std, dtype=torch.float32)
        labels = torch.tensor(y)
        train = TensorDataset(scaled[train_rows], labels[train_rows])
        test = TensorDataset(scaled[test_rows], labels[test_rows])
        trainer = Trainer(Net(13, 3), lr=0.1, epochs=20)
        trainer.fit(DataLoader(train, batch_size=16, shuffle=True, drop_last=True))
        scores.append(trainer.score(DataLoader(test, batch_size=4)))
        print(f"fold {fold}: {scores[-1]:.3f}")
    print(f"mean accuracy {sum(scores) / len(scores):.4f}")


if __name__ == "__main__":
    main()
