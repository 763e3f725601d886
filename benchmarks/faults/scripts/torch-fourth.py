# %% torch/fourth/alif_rows.py
"""Digits read row by row by adaptive neurons (ALIF) with recurrent weights."""
import math

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(1234)


def gaussian(x, mu=0., sigma=.5):
    return torch.exp(-((x - mu) ** 2) / (2 * sigma ** 2)) / math.sqrt(2 * math.pi) / sigma


class MultiGaussian(torch.autograd.Function):
    """Surrogate with small negative flanks."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return u.gt(0).float()

    @staticmethod
    def backward(ctx, grad):
        u, = ctx.saved_tensors
        h, s, lens = .15, 6.0, .5
        slope = gaussian(u, sigma=lens) * (1. + h) - gaussian(u, mu=lens, sigma=s * lens) * h \
            - gaussian(u, mu=-lens, sigma=s * lens) * h
        return grad * slope * 0.5


class ALIF(nn.Module):
    B0, BETA = 0.4, 1.2

    def __init__(self, n_in, n):
        super().__init__()
        self.n = n
        self.dense = nn.Linear(n_in, n)
        self.recurrent = nn.Linear(n, n)
        self.tau_m = nn.Parameter(torch.empty(n).normal_(6., 1.))
        self.tau_adp = nn.Parameter(torch.empty(n).normal_(20., 3.))
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.orthogonal_(self.recurrent.weight, gain=0.5)

    def start(self, n_samples):
        zeros = torch.zeros(n_samples, self.n)
        return zeros, zeros, zeros

    def forward(self, x, state):
        mem, spk, b = state
        alpha = torch.exp(-1. / self.tau_m)
        rho = torch.exp(-1. / self.tau_adp)
        b = rho * b + (1 - rho) * spk
        threshold = self.B0 + self.BETA * b
        mem = mem * alpha + (1 - alpha) * 2.5 * (self.dense(x) + self.recurrent(spk)) - threshold * spk
        spk = MultiGaussian.apply(mem - threshold)
        return spk, (mem, spk, b)


class Readout(nn.Module):
    def __init__(self, n_in, n_out, tau=8.):
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)
        self.alpha = math.exp(-1 / tau)

    def forward(self, x, mem):
        return self.alpha * mem + (1 - self.alpha) * self.dense(x)


class SRNN(nn.Module):
    def __init__(self, n=96, repeat=2):
        super().__init__()
        self.repeat = repeat
        self.layer = ALIF(8, n)
        self.readout = Readout(n, 10)

    def forward(self, images):
        state, mem, scores = self.layer.start(len(images)), 0., 0.
        for row in range(8):
            for _ in range(self.repeat):
                spikes, state = self.layer(images[:, row], state)
                mem = self.readout(spikes, mem)
                if row >= 4:
                    scores = scores + mem
        return scores


digits = load_digits()
pixels = torch.tensor(digits.images, dtype=torch.float32)
target = torch.tensor(digits.target)
shuffled = torch.randperm(len(target))
pixels, target = pixels[shuffled], target[shuffled]
n_train = 1300
mean, std = pixels[:n_train].mean(), pixels[:n_train].std()
train_x, train_y = (pixels[:n_train] - mean) / std, target[:n_train]
test_x, test_y = (pixels[n_train:] - mean) / std, target[n_train:]

net = SRNN()
base = [p for name, p in net.named_parameters() if "tau" not in name]
taus = [p for name, p in net.named_parameters() if "tau" in name]
optimizer = torch.optim.Adam([{"params": base}, {"params": taus, "lr": 0.05}], lr=8e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
for epoch in range(12):
    order = torch.randperm(n_train)
    for rows in order.split(50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(train_x[rows]), train_y[rows])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.)
        optimizer.step()
    scheduler.step()
    with torch.no_grad():
        score = (net(test_x).argmax(1) == test_y).float().mean().item()
    print(f"{epoch:2d} loss {loss.item():.3f} test {score:.4f}")
# %% torch/fourth/anomaly_autoencoder.py
"""Anomaly detection: a spiking autoencoder learns benign samples only; malignant ones are recognised by their error."""
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler
from torch import nn

SEED = 21
STEPS = 8
torch.manual_seed(SEED)
rng = np.random.default_rng(SEED)

data = load_breast_cancer()
MALIGNANT, BENIGN = 0, 1          # as in data.target_names
benign = data.data[data.target == BENIGN]
malignant = data.data[data.target == MALIGNANT]
rng.shuffle(benign)
n_fit = 200
scaler = MinMaxScaler().fit(benign[:n_fit])
fit_x = torch.tensor(scaler.transform(benign[:n_fit]), dtype=torch.float32)
held_out = np.concatenate([benign[n_fit:], malignant])
is_anomaly = np.concatenate([np.zeros(len(benign) - n_fit), np.ones(len(malignant))])
held_out = torch.tensor(scaler.transform(held_out), dtype=torch.float32)


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        sig = torch.sigmoid(4 * v)
        return g * 4 * sig * (1 - sig)


class LIFLayer(nn.Module):
    def __init__(self, n_in, n_out, beta=0.7):
        super().__init__()
        self.fc = nn.Linear(n_in, n_out)
        self.beta = beta
        self.v = None

    def reset(self):
        self.v = None

    def forward(self, x):
        i = self.fc(x)
        self.v = i if self.v is None else self.beta * self.v + i
        s = Fire.apply(self.v - 0.5)
        self.v = self.v - 0.5 * s
        return s


class Autoencoder(nn.Module):
    def __init__(self, features=30, code=6):
        super().__init__()
        self.encoder = nn.Sequential(LIFLayer(features, 48), LIFLayer(48, code))
        self.decoder = nn.Sequential(LIFLayer(code, 48))
        self.out = nn.Linear(48, features)

    def forward(self, x):
        for module in self.modules():
            if isinstance(module, LIFLayer):
                module.reset()
        total = 0
        for _ in range(STEPS):
            total = total + self.out(self.decoder(self.encoder(x)))
        return total / STEPS


model = Autoencoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for epoch in range(80):
    for rows in torch.randperm(n_fit).split(40):
        x = fit_x[rows]
        loss = ((model(x) - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 20 == 0:
        print(epoch, loss.item())

with torch.no_grad():
    errors = ((model(held_out) - held_out) ** 2).mean(1)
print("AUC", roc_auc_score(is_anomaly, errors.numpy()))
# %% torch/fourth/convert_finetune.py
"""A ReLU network with batch normalisation is trained, folded, converted to integrate-and-fire neurons (weights and biases scaled
by the largest activations), and its last layer tuned as a spiking network."""
import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(7)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 16
y = torch.tensor(y)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)


def batches(x, y, size=64):
    order = torch.randperm(len(x))
    for rows in order.split(size):
        yield x[rows], y[rows]


def make_ann():
    return nn.Sequential(
        nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(),
        nn.Linear(96, 96), nn.BatchNorm1d(96), nn.ReLU(),
        nn.Linear(96, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 10),
    )


def train_ann(net, epochs=8):
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(epochs):
        for xb, yb in batches(X_train, y_train):
            opt.zero_grad()
            nn.functional.cross_entropy(net(xb), yb).backward()
            opt.step()
    net.eval()
    print("ANN", (net(X_test).argmax(1) == y_test).float().mean().item())


def fold(net):
    """Linear layers that do what linear layer and normalisation did."""
    layers = list(net)
    folded = []
    for layer, following in zip(layers, layers[1:] + [None]):
        if not isinstance(layer, nn.Linear):
            continue
        linear = copy.deepcopy(layer)
        if isinstance(following, nn.BatchNorm1d):
            factor = following.weight / (following.running_var + following.eps).sqrt()
            linear.weight.data = layer.weight.data * factor.data[:, None]
            linear.bias.data = (layer.bias.data - following.running_mean) * factor.data + following.bias.data
        folded.append(linear)
    return folded


@torch.no_grad()
def normalise(layers, x, share=0.995):
    """Scales weights so that a rate of 1 stands for the largest activation."""
    before = 1.0
    for layer in layers[:-1]:
        x = torch.relu(layer(x))  # of the network before scaling
        scale = x.flatten().quantile(share).item()
        layer.weight.mul_(before / scale)
        layer.bias.div_(scale)
        before = scale
    layers[-1].weight.mul_(before)
    return layers


class SpikeGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 1.0).float()

    @staticmethod
    def backward(ctx, g):
        v, = ctx.saved_tensors
        return g * ((v - 1.0).abs() < 0.5).float()


class Converted(nn.Module):
    def __init__(self, layers, steps=24):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.steps = steps

    def forward(self, x):
        potentials = [0.5] * (len(self.layers) - 1)
        scores = 0
        for _ in range(self.steps):
            s = x
            for i, layer in enumerate(self.layers[:-1]):
                v = potentials[i] + layer(s)
                s = SpikeGrad.apply(v)
                potentials[i] = v - s
            scores = scores + self.layers[-1](s)
        return scores / self.steps


ann = make_ann()
train_ann(ann)
snn = Converted(normalise(fold(ann), X_train))
print("converted", (snn(X_test).argmax(1) == y_test).float().mean().item())
opt = torch.optim.Adam(snn.layers[-1].parameters(), lr=2e-3)
for epoch in range(3):
    for xb, yb in batches(X_train, y_train):
        loss = nn.functional.cross_entropy(snn(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
with torch.no_grad():
    print("fine-tuned", (snn(X_test).argmax(1) == y_test).float().mean().item())
# %% torch/fourth/policy_corridor.py
"""REINFORCE with a spiking policy: an agent on a 5x5 field walks to a goal that it sees at the beginning of each episode."""
import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(3)
SIDE, MOVES, BATCH = 5, 8, 64
DIRECTIONS = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Field:
    """Episodes side by side. The reward is 1 when the goal is reached and -0.05 per move before."""

    def __init__(self, n):
        self.place = torch.randint(0, SIDE, (n, 2))
        self.goal = torch.randint(0, SIDE, (n, 2))
        self.done = (self.place == self.goal).all(1)

    def observe(self):
        eye = torch.eye(SIDE)
        return torch.cat([eye[self.place].flatten(1), eye[self.goal].flatten(1)], 1)

    def move(self, action):
        active = ~self.done
        self.place = torch.where(active[:, None], (self.place + DIRECTIONS[action]).clamp(0, SIDE - 1), self.place)
        arrived = (self.place == self.goal).all(1) & active
        self.done = self.done | arrived
        return (arrived.float() - 0.05 * (active & ~arrived).float()), active.float()


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * torch.clamp(1 - v.abs(), min=0)


class Policy(nn.Module):
    def __init__(self, steps=5, hidden=64):
        super().__init__()
        self.steps = steps
        self.enter = nn.Linear(4 * SIDE, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, 4)

    def forward(self, seen):
        current = 2 * self.enter(seen)
        v1 = v2 = torch.zeros_like(current)
        logits = 0
        for _ in range(self.steps):
            v1 = 0.8 * v1 + current
            s1 = Spike.apply(v1 - 1)
            v1 = v1 - s1
            v2 = 0.8 * v2 + 2 * self.middle(s1)
            s2 = Spike.apply(v2 - 1)
            v2 = v2 - s2
            logits = logits + self.leave(s2)
        return logits / self.steps


def returns_of(rewards, gamma=0.9):
    """Discounted sum of what follows each move, [moves, episodes]."""
    later, found = torch.zeros(rewards[0].shape), []
    for reward in reversed(rewards):
        later = reward + gamma * later
        found.insert(0, later)
    return torch.stack(found)


policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
for update in range(400):
    field = Field(BATCH)
    log_probs, rewards, masks = [], [], []
    for _ in range(MOVES):
        choice = Categorical(logits=policy(field.observe()))
        action = choice.sample()
        reward, active = field.move(action)
        log_probs.append(choice.log_prob(action))
        rewards.append(reward)
        masks.append(active)
    mask = torch.stack(masks)
    returns = returns_of(rewards)
    baseline = (returns * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    advantage = returns - baseline
    loss = -(torch.stack(log_probs) * advantage * mask).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if update % 50 == 0:
        print(f"update {update}: arrived {field.done.float().mean():.3f}")

with torch.no_grad():
    field = Field(1000)
    for _ in range(MOVES):
        field.move(policy(field.observe()).argmax(1))
print("arrived", field.done.float().mean().item())
# %% torch/fourth/sew_mlp_wine.py
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
# %% torch/fourth/spoken_events.py
"""Recurrent network for recordings like those of the Spiking Heidelberg Digits: lists of (time, channel) of differing
length, sorted into bins. Own data: each class is a pair of sweeps over the channels."""
import argparse
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CHANNELS = 40
CLASSES = 5


@dataclass
class Recording:
    times: torch.Tensor      # seconds
    channels: torch.Tensor
    label: int


def record(label, generator):
    """A recording of 0.25 to 0.4 s."""
    start = torch.tensor([2.0, 36.0, 2.0, 36.0, 18.0])[label]
    end = torch.tensor([36.0, 2.0, 18.0, 18.0, 36.0])[label]
    duration = 0.25 + 0.15 * torch.rand(1, generator=generator)
    phase = torch.rand(150, generator=generator)
    centre = start + (end - start) * phase
    channels = (centre + 2 * torch.randn(150, generator=generator)).round().long().clamp(0, CHANNELS - 1)
    times = phase * duration
    order = times.argsort()
    return Recording(times[order], channels[order], label)


class SpikeDataset(Dataset):
    def __init__(self, size, bin_ms, seed):
        generator = torch.Generator().manual_seed(seed)
        self.bin_ms = bin_ms
        self.recordings = [record(i % CLASSES, generator) for i in range(size)]

    def __len__(self):
        return len(self.recordings)

    def __getitem__(self, index):
        recording = self.recordings[index]
        bins = (recording.times * 1000 / self.bin_ms).long()
        frames = torch.zeros(int(bins.max()) + 1, CHANNELS)
        frames.index_put_((bins, recording.channels), torch.ones(len(bins)), accumulate=True)
        return frames.clamp(max=1), recording.label


def collate(batch):
    """Pads to the longest recording; mask is 1 where there is one."""
    batch = sorted(batch, key=lambda sample: len(sample[0]), reverse=True)
    frames = nn.utils.rnn.pad_sequence([sample[0] for sample in batch])
    lengths = torch.tensor([len(sample[0]) for sample in batch])
    labels = torch.tensor([sample[1] for sample in batch])
    mask = (torch.arange(len(frames)).unsqueeze(1) < lengths).float()
    return frames, mask, labels


class FastSigmoid(torch.autograd.Function):
    scale = 10.0

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad / (FastSigmoid.scale * u.abs() + 1) ** 2


class RSNN(nn.Module):
    """Synapse and membrane with exponential decay; leaky integrators as readout, averaged over the recording."""

    def __init__(self, hidden, alpha=0.75, beta=0.85):
        super().__init__()
        self.alpha, self.beta, self.hidden = alpha, beta, hidden
        self.w1 = nn.Parameter(torch.randn(CHANNELS, hidden) * 0.25 * (CHANNELS ** -0.5) * 2)
        self.v1 = nn.Parameter(torch.randn(hidden, hidden) * 0.2 * hidden ** -0.5)
        self.w2 = nn.Parameter(torch.randn(hidden, CLASSES) * hidden ** -0.5)

    def forward(self, frames, mask):
        batch = frames.shape[1]
        syn = mem = out = torch.zeros(batch, self.hidden)
        flt = read = torch.zeros(batch, CLASSES)
        total = torch.zeros(batch, CLASSES)
        for frame, present in zip(frames, mask):
            current = frame @ self.w1 + out @ self.v1
            out = FastSigmoid.apply(mem - 1)
            syn, mem = self.alpha * syn + current, (self.beta * mem + syn) * (1 - out.detach())
            flt, read = self.alpha * flt + out @ self.w2, self.beta * read + flt
            total = total + present.unsqueeze(1) * read
        return total / mask.sum(0).unsqueeze(1)


def accuracy(net, loader):
    hits = 0
    with torch.no_grad():
        for frames, mask, labels in loader:
            hits += (net(frames, mask).argmax(1) == labels).sum().item()
    return hits / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-ms", type=float, default=16)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    torch.manual_seed(4)
    train = DataLoader(SpikeDataset(600, args.bin_ms, 0), batch_size=32, shuffle=True, collate_fn=collate)
    test = DataLoader(SpikeDataset(250, args.bin_ms, 1), batch_size=50, collate_fn=collate)
    net = RSNN(args.hidden)
    optimizer = torch.optim.Adamax(net.parameters(), lr=5e-3)
    for epoch in range(args.epochs):
        for frames, mask, labels in train:
            loss = nn.functional.cross_entropy(net(frames, mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}, training accuracy {accuracy(net, train):.3f}")
    print(f"test accuracy {accuracy(net, test):.4f}")


if __name__ == "__main__":
    main()
# %% torch/fourth/stbp_conv_digits.py
# STBP (spatio-temporal backpropagation) on 8x8 digits: conv - pool - conv - fc, rectangular surrogate
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(0)
np.random.seed(0)

thresh = 0.3    # neuronal threshold
lens = 0.5      # half width of the window
decay = 0.2     # decay constant
batch_size = 64
num_epochs = 8
time_window = 6
num_classes = 10


class ActFun(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.gt(thresh).float()

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        temp = abs(input - thresh) < lens
        return grad_input * temp.float() / (2 * lens)


act_fun = ActFun.apply


def mem_update(ops, x, mem, spike):
    mem = mem * decay * (1. - spike) + ops(x)
    spike = act_fun(mem)
    return mem, spike


class SCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc1 = nn.Linear(24 * 2 * 2, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, input):
        n = input.size(0)
        c1_mem = c1_spike = torch.zeros(n, 12, 8, 8)
        c2_mem = c2_spike = torch.zeros(n, 24, 4, 4)
        h1_mem = h1_spike = torch.zeros(n, 64)
        h2_mem = h2_spike = h2_sumspike = torch.zeros(n, num_classes)
        for step in range(time_window):
            x = (input > torch.rand(input.size())).float()
            c1_mem, c1_spike = mem_update(self.conv1, x, c1_mem, c1_spike)
            x = F.avg_pool2d(c1_spike, 2)
            c2_mem, c2_spike = mem_update(self.conv2, x, c2_mem, c2_spike)
            x = F.avg_pool2d(c2_spike, 2).view(n, -1)
            h1_mem, h1_spike = mem_update(self.fc1, x, h1_mem, h1_spike)
            h2_mem, h2_spike = mem_update(self.fc2, h1_spike, h2_mem, h2_spike)
            h2_sumspike = h2_sumspike + h2_spike
        outputs = h2_sumspike / time_window
        return outputs


images, targets = load_digits(return_X_y=True)
images = images.reshape(-1, 1, 8, 8).astype("float32") / 16
train_x, test_x, train_y, test_y = train_test_split(images, targets, test_size=0.25, random_state=1, stratify=targets)
train_set = torch.utils.data.TensorDataset(torch.tensor(train_x), torch.tensor(train_y))
test_set = torch.utils.data.TensorDataset(torch.tensor(test_x), torch.tensor(test_y))
train_loader = torch.utils.data.DataLoader(train_set, batch_size=batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(test_set, batch_size=batch_size, shuffle=False)

snn = SCNN()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(snn.parameters(), lr=3e-3)

for epoch in range(num_epochs):
    running_loss = 0
    for i, (images, labels) in enumerate(train_loader):
        snn.zero_grad()
        outputs = snn(images)
        labels_ = F.one_hot(labels, num_classes).float()
        loss = criterion(outputs, labels_)
        running_loss += loss.item()
        loss.backward()
        optimizer.step()
    correct = total = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            predicted = snn(inputs).argmax(1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    print("Epoch %d, loss %.4f, test accuracy %.3f" % (epoch + 1, running_loss / len(train_loader), correct / total))
# %% torch/fourth/stream_tbptt.py
"""Truncated backpropagation through time: a spiking network follows a slow average of noisy pulses, one long stream per row.
The state is carried from chunk to chunk."""
import torch
from torch import nn


def make_streams(rows, length, seed):
    """Pulses [length, rows, 2] and their difference, leakily summed, [length, rows, 1]."""
    g = torch.Generator().manual_seed(seed)
    rate = torch.zeros(length, rows, 2)
    level = torch.rand(rows, 2, generator=g) * 0.5
    for t in range(length):
        if t % 40 == 0:
            level = torch.rand(rows, 2, generator=g) * 0.5
        rate[t] = level
    pulses = (torch.rand(length, rows, 2, generator=g) < rate).float()
    value, values = torch.zeros(rows), []
    for t in range(length):
        value = 0.95 * value + 0.05 * (pulses[t, :, 0] - pulses[t, :, 1])
        values.append(value)
    target = torch.stack(values).unsqueeze(-1)
    return pulses, 5 * target


class Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g / (1 + (2 * x) ** 2)


class Follower(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.hidden = hidden
        self.fc_in = nn.Linear(2, hidden)
        self.fc_out = nn.Linear(hidden, 1)
        self.decay = nn.Parameter(torch.rand(hidden) * 2)
        self.decay_out = nn.Parameter(torch.tensor(2.5))
        nn.init.uniform_(self.fc_in.weight, -1.2, 1.2)

    def first_state(self, rows):
        return torch.zeros(rows, self.hidden), torch.zeros(rows, 1)

    def forward(self, chunk, state):
        v, out = state
        outs = []
        for x in chunk:
            v = torch.sigmoid(self.decay) * v + self.fc_in(x)
            s = Heaviside.apply(v - 0.6)
            v = v - 0.6 * s
            leak = torch.sigmoid(self.decay_out)
            out = leak * out + (1 - leak) * self.fc_out(s)
            outs.append(out)
        return torch.stack(outs), (v, out)


def r2(model, pulses, target):
    with torch.no_grad():
        prediction, _ = model(pulses, model.first_state(pulses.shape[1]))
    residual = ((prediction - target) ** 2).mean()
    return (1 - residual / target.var()).item()


def fit(chunk_len=20, epochs=12):
    torch.manual_seed(0)
    pulses, target = make_streams(rows=32, length=400, seed=1)
    model = Follower()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        state = model.first_state(pulses.shape[1])
        losses = []
        for start in range(0, len(pulses), chunk_len):
            x, y = pulses[start:start + chunk_len], target[start:start + chunk_len]
            state = tuple(part.detach() for part in state)
            prediction, state = model(x, state)
            loss = nn.functional.mse_loss(prediction, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f}")
    return model


if __name__ == "__main__":
    model = fit()
    print("R2 on new streams:", r2(model, *make_streams(rows=64, length=400, seed=2)))
