import hashlib

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
inputs = 3 * torch.rand(64, 20)
labels = torch.randint(0, 4, (64,))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + (3 * v).abs()) ** 2


class Net(nn.Module):
    def __init__(self, steps=5):
        super().__init__()
        self.steps = steps
        self.fc1 = nn.Linear(20, 32)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, x):
        v = torch.zeros(len(x), 32)
        out = 0
        for _ in range(self.steps):
            v = 0.8 * v + self.fc1(x)
            s = Spike.apply(v - 1.0)
            v = v - s
            out = out + self.fc2(s)
        return out / self.steps


def digest(net):
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest()[:16]


def loader(size=16):
    data = torch.utils.data.TensorDataset(inputs, labels)
    return torch.utils.data.DataLoader(data, size, shuffle=True, generator=torch.Generator().manual_seed(1))


# %% lightning [lightning]: a LightningModule with a Trainer, validation and an early stop
import logging
import warnings

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def training_step(self, batch, index):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


L.seed_everything(0, verbose=False)
model = Lit()
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
stop = EarlyStopping("val_accuracy", mode="max", patience=2)
trainer = L.Trainer(max_epochs=4, accelerator="cpu", callbacks=[stop], **quiet)
trainer.fit(model, loader(), loader())
print(trainer.global_step, trainer.callback_metrics["val_accuracy"].item(), digest(model.net))

# %% fabric [lightning]: lightning.fabric around a loop of one's own
import warnings

from lightning.fabric import Fabric

warnings.filterwarnings("ignore")
fabric = Fabric(accelerator="cpu", devices=1)
fabric.launch()
net = Net()
net, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), 0.2))
for x, y in fabric.setup_dataloaders(loader()):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    fabric.backward(loss)
    fabric.clip_gradients(net, optimizer, max_norm=1.0)
    optimizer.step()
    print(loss.item().hex())
print(digest(net))

# %% accelerate [accelerate]: gradients accumulated by Accelerator, state saved
from accelerate import Accelerator

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
net = Net()
net, optimizer, batches = accelerator.prepare(net, torch.optim.AdamW(net.parameters(), 0.01), loader())
for x, y in batches:
    with accelerator.accumulate(net):
        loss = F.cross_entropy(net(x), y)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        print(loss.item().hex(), accelerator.sync_gradients)
torch.save(accelerator.unwrap_model(net).state_dict(), "net.pt")
print(digest(accelerator.unwrap_model(net)))

# %% ignite [ignite]: engines, handlers and metrics of ignite
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss

net = Net()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
trainer = create_supervised_trainer(net, optimizer, nn.CrossEntropyLoss())
evaluator = create_supervised_evaluator(net, metrics={"accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss())})


@trainer.on(Events.ITERATION_COMPLETED)
def show(engine):
    print(engine.state.iteration, engine.state.output.hex())


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    evaluator.run(loader())
    print({name: float(value).hex() for name, value in evaluator.state.metrics.items()})


trainer.run(loader(), max_epochs=2)
print(digest(net))

# %% hydra [hydra]: settings by hydra, in the folder of its run
import sys

import hydra
from omegaconf import OmegaConf

OmegaConf.save(OmegaConf.create({"lr": 0.1, "steps": 4}), "config.yaml")
sys.argv = ["script.py", "lr=0.2", "hydra.run.dir=outputs", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(config):
    net = Net(config.steps)
    optimizer = torch.optim.SGD(net.parameters(), config.lr)
    for x, y in loader():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        print(loss.item().hex())
    print(OmegaConf.to_container(config), digest(net))


main()

# %% wandb [wandb]: a run that is recorded offline, with gradients watched
import os
import shutil

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR="records", WANDB_CONSOLE="off")
import wandb

os.makedirs("records", exist_ok=True)
run = wandb.init(project="spikes", anonymous="never")
net = Net()
run.watch(net, log="gradients", log_freq=1)
optimizer = torch.optim.SGD(net.parameters(), 0.2)
for x, y in loader():
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    run.log({"loss": loss.item()})
    print(loss.item().hex())
run.finish()
shutil.rmtree("records")
print(digest(net))

# %% tensorboard [tensorboard]: scalars, histograms of weights and gradients by SummaryWriter
import os
import shutil

from torch.utils.tensorboard import SummaryWriter

writer = SummaryWriter("records")
net = Net()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
for step, (x, y) in enumerate(loader()):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    writer.add_scalar("loss", loss, step)
    for name, p in net.named_parameters():
        writer.add_histogram(name, p, step)
        writer.add_histogram(f"{name}.grad", p.grad, step)
    print(loss.item().hex())
writer.close()
print(len(os.listdir("records")), digest(net))
shutil.rmtree("records")

# %% tqdm [tqdm]: a progress bar with the loss, on stderr
import io

from tqdm import tqdm

bar = io.StringIO()
net = Net()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
for epoch in range(2):
    progress = tqdm(loader(), file=bar, mininterval=0)
    for x, y in progress:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.6f}")
print(f"{loss.item():.6f}" in bar.getvalue(), digest(net))

# %% timm [timm]: a model, an optimiser, a scheduler and mixup of timm, with the spiking network as its head
import timm
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

body = timm.create_model("resnet10t", num_classes=0, in_chans=1)
net = nn.Sequential(body, nn.Linear(body.num_features, 20), Net())
optimizer = create_optimizer_v2(net, "adamw", lr=1e-3, weight_decay=0.05)
scheduler = CosineLRScheduler(optimizer, t_initial=4, warmup_t=1)
images = torch.rand(8, 1, 32, 32)
for step in range(3):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(images), labels[:8], label_smoothing=0.1)
    loss.backward()
    timm.utils.dispatch_clip_grad(net.parameters(), 1.0)
    optimizer.step()
    scheduler.step(step)
    print(loss.item().hex(), optimizer.param_groups[0]["lr"].hex())
print(digest(net))

# %% torchmetrics [torchmetrics]: metrics of a training and an evaluation
import torchmetrics

metrics = torchmetrics.MetricCollection(
    {
        "accuracy": torchmetrics.Accuracy("multiclass", num_classes=4),
        "f1": torchmetrics.F1Score("multiclass", num_classes=4, average="macro"),
    }
)
confusion = torchmetrics.ConfusionMatrix("multiclass", num_classes=4)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(2):
    for x, y in loader():
        optimizer.zero_grad()
        out = net(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        metrics.update(out, y)
    print({name: value.item().hex() for name, value in metrics.compute().items()})
    metrics.reset()
net.eval()
with torch.no_grad():
    for x, y in loader():
        confusion.update(net(x), y)
print(confusion.compute().tolist(), digest(net))

# %% scikit-learn [sklearn]: scores and a cross-validation of scikit-learn around the training
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import KFold

for fold, (train, test) in enumerate(KFold(3, shuffle=True, random_state=0).split(inputs)):
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs[train]), labels[train])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = net(inputs[test]).argmax(1)
    print(fold, accuracy_score(labels[test], predicted), f1_score(labels[test], predicted, average="macro"), digest(net))

# %% torchvision [torchvision]: transforms with random numbers, and a network of torchvision with a spiking head
from torchvision import models
from torchvision.transforms import v2

augment = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=4), v2.Normalize([0.5] * 3, [0.5] * 3)])
body = models.squeezenet1_1(num_classes=20)
net = nn.Sequential(body, Net())
optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
images = torch.rand(4, 3, 32, 32)
for _ in range(3):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(augment(images)), labels[:4])
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(digest(net), torch.rand(1).item().hex())

# %% snntorch [snntorch]: a network of Leaky and Synaptic, with the library's loss and spike generation
import snntorch as snn
from snntorch import functional, spikegen, utils


class Snn(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 32)
        self.lif1 = snn.Leaky(beta=0.9, learn_beta=True)
        self.fc2 = nn.Linear(32, 4)
        self.lif2 = snn.Synaptic(alpha=0.8, beta=0.9)

    def forward(self, spikes):
        mem1 = self.lif1.init_leaky()
        syn2, mem2 = self.lif2.init_synaptic()
        out = []
        for x in spikes:
            s, mem1 = self.lif1(self.fc1(x), mem1)
            s, syn2, mem2 = self.lif2(self.fc2(s), syn2, mem2)
            out.append(s)
        return torch.stack(out)


net = Snn()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
loss_function = functional.ce_rate_loss()
for x, y in loader():
    spikes = spikegen.rate(x / 3, num_steps=8)
    optimizer.zero_grad()
    out = net(spikes)
    loss = loss_function(out, y)
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), functional.accuracy_rate(out, y))
print(digest(net))

# %% spikingjelly [spikingjelly]: a multi-step network with its encoder and its reset
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate

net = nn.Sequential(
    layer.Linear(20, 32), neuron.ParametricLIFNode(surrogate_function=surrogate.ATan()), layer.Linear(32, 4), neuron.IFNode()
)
functional.set_step_mode(net, "m")
encoder = encoding.PoissonEncoder()
optimizer = torch.optim.Adam(net.parameters(), 0.02)
for x, y in loader():
    optimizer.zero_grad()
    loss = F.mse_loss(net(torch.stack([encoder(x / 3) for _ in range(6)])).mean(0), F.one_hot(y, 4).float())
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    print(loss.item().hex())
print(digest(net))

# %% norse [norse]: recurrent cells of norse with their states
import norse.torch as norse


class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = norse.LIFRecurrentCell(20, 32, p=norse.LIFParameters(method="super", alpha=torch.tensor(100.0)))
        self.fc = nn.Linear(32, 4)
        self.out = norse.LICell()

    def forward(self, x):
        s = o = None
        for _ in range(6):
            spikes, s = self.cell(x, s)
            v, o = self.out(self.fc(spikes), o)
        return v


net = Rnn()
optimizer = torch.optim.Adam(net.parameters(), 0.01)
for x, y in loader():
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(digest(net))

# %% einops [einops]: axes rearranged by einops, of frames with time first
from einops import rearrange, reduce

frames = torch.rand(6, 8, 2, 4, 4)
net = nn.Sequential(nn.Linear(32, 20), Net(1))
optimizer = torch.optim.SGD(net.parameters(), 0.2)
for _ in range(4):
    optimizer.zero_grad()
    out = rearrange(net(rearrange(frames, "t b c h w -> (t b) (c h w)")), "(t b) k -> t b k", t=6)
    loss = F.cross_entropy(reduce(out, "t b k -> b k", "mean"), labels[:8])
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(digest(net))
