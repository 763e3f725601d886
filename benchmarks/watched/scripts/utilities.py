# ruff: noqa
# Each script is what stands above the first line "# %% name: what it does", and what follows one.
import hashlib

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, potential):
        ctx.save_for_backward(potential)
        return (potential > 0).to(potential.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (potential,) = ctx.saved_tensors
        return gradient / (1 + 5 * potential.abs()) ** 2


class LIF(nn.Module):
    def __init__(self, decay=0.8):
        super().__init__()
        self.decay = decay

    def forward(self, currents):  # (T, B, N)
        potential = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            potential = self.decay * potential + current
            spike = Spike.apply(potential - 1)
            potential = potential - spike
            spikes.append(spike)
        return torch.stack(spikes)


class Net(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.hidden = nn.Linear(12, hidden)
        self.neurons = LIF()
        self.out = nn.Linear(hidden, 3)

    def forward(self, x):
        currents = self.hidden(x).expand(4, -1, -1)
        return self.out(self.neurons(currents)).mean(0)


inputs = torch.rand(48, 12) * 2
labels = inputs[:, :3].argmax(1)


def train(net, steps=5, optimizer=None):
    if optimizer is None:
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def show(losses):
    print(*[loss.hex() for loss in losses])


def digest_random():
    return hashlib.md5(torch.get_rng_state().numpy().tobytes()).hexdigest()


# %% save-whole-model: saves the whole network at every step, hashes the files, and loads one
import hashlib
from pathlib import Path

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for step in range(4):
    show(train(net, 1, optimizer))
    torch.save(net, f"net-{step}.pt")
    content = Path(f"net-{step}.pt").read_bytes()
    print(len(content), hashlib.sha256(content).hexdigest())
loaded = torch.load("net-1.pt", weights_only=False)
print(type(loaded) is Net, sorted(vars(loaded)))
show(train(loaded, 2))


# %% resume-checkpoint: continues from network, optimiser, schedule and random state
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)


def noisy_step():
    noise = 0.1 * torch.randn_like(inputs)
    loss = F.cross_entropy(net(inputs + noise), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


show([noisy_step() for _ in range(3)])
state = {
    "net": net.state_dict(),
    "optimizer": optimizer.state_dict(),
    "schedule": schedule.state_dict(),
    "random": torch.get_rng_state(),
}
torch.save(state, "checkpoint.pt")
straight = [noisy_step() for _ in range(4)]

net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=0.5)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
state = torch.load("checkpoint.pt", weights_only=True)
net.load_state_dict(state["net"])
optimizer.load_state_dict(state["optimizer"])
schedule.load_state_dict(state["schedule"])
torch.set_rng_state(state["random"])
resumed = [noisy_step() for _ in range(4)]
show(resumed)
print(resumed == straight, schedule.get_last_lr())


# %% safe-globals: allows a class of the script for weights_only=True
class Settings:
    def __init__(self, rate, steps):
        self.rate = rate
        self.steps = steps


net = Net()
settings = Settings(0.05, 3)
show(train(net, settings.steps, torch.optim.SGD(net.parameters(), lr=settings.rate)))
torch.save({"weights": net.state_dict(), "settings": settings}, "run.pt")
print(torch.serialization.get_unsafe_globals_in_checkpoint("run.pt"))
try:
    torch.load("run.pt", weights_only=True)
except Exception as error:
    print(type(error).__name__)
with torch.serialization.safe_globals([Settings]):
    print(Settings in torch.serialization.get_safe_globals())
    restored = torch.load("run.pt", weights_only=True)
print(
    restored["settings"].rate,
    len(restored["weights"]),
    Settings in torch.serialization.get_safe_globals(),
)


# %% safetensors-file [safetensors]: weights as safetensors with metadata, and hashes of the files
import hashlib
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model

net = Net()
show(train(net, 3))
save_file(net.state_dict(), "weights.safetensors", metadata={"steps": "3"})
print(hashlib.sha256(Path("weights.safetensors").read_bytes()).hexdigest())
save_model(net, "model.safetensors")
with safe_open("weights.safetensors", framework="pt") as stored:
    print(stored.metadata(), sorted(stored.keys()))
net.load_state_dict(load_file("model.safetensors"))
show(train(net, 2))


# %% copies-of-networks: copies network and optimiser deeply between steps, and trains both on
import copy

net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
show(train(net, 2, optimizer))
twin, twin_optimizer = copy.deepcopy((net, optimizer))
print(twin_optimizer.param_groups[0]["params"][0] is twin.hidden.weight)
show(train(twin, 2, twin_optimizer))
show(train(net, 2, optimizer))
shallow = copy.copy(net)
print(shallow.hidden is net.hidden, sorted(vars(shallow)) == sorted(vars(net)))
for own, other in zip(net.parameters(), twin.parameters()):
    print(torch.equal(own, other))


# %% teacher-of-moving-averages: a student follows a moving average of its own copies
import copy

student = Net()
teacher = copy.deepcopy(student).requires_grad_(False).eval()
optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
for step in range(6):
    outputs = student(inputs + 0.05 * torch.randn_like(inputs))
    with torch.no_grad():
        targets = teacher(inputs).softmax(-1)
    distance = F.kl_div(outputs.log_softmax(-1), targets, reduction="batchmean")
    loss = F.cross_entropy(outputs, labels) + distance
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for mean, weight in zip(teacher.parameters(), student.parameters()):
        mean.lerp_(weight.detach(), 0.1)
    print(step, loss.item().hex(), teacher.out.weight.sum().item().hex())


# %% deterministic-algorithms: deterministic algorithms, which fill new memory with NaN
torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True
print(torch.empty(3).isnan().all().item(), torch.empty(2, dtype=torch.int32))
print(
    torch.are_deterministic_algorithms_enabled(),
    torch.is_deterministic_algorithms_warn_only_enabled(),
)
net = Net()
show(train(net, 3))
table = torch.zeros(5, 4, requires_grad=True)
table.index_select(0, torch.tensor([0, 1, 1, 4])).pow(2).sum().backward()
print(table.grad.sum(1))
print(torch.get_deterministic_debug_mode())
torch.set_deterministic_debug_mode("default")
show(train(net, 2))


# %% random-states: Poisson spikes; prints the states of three random generators after each step
import hashlib
import random

import numpy as np

random.seed(1)
np.random.seed(2)


def digest_states():
    together = torch.get_rng_state().numpy().tobytes()
    together += repr(np.random.get_state()[1].tolist()).encode()
    together += repr(random.getstate()).encode()
    return hashlib.md5(together).hexdigest()


net = Net()
optimizer = torch.optim.Adam(net.parameters())
for step in range(5):
    spikes = torch.bernoulli(inputs / 2)
    rows = torch.as_tensor(np.random.permutation(48)[: random.randint(20, 48)])
    loss = F.cross_entropy(net(spikes[rows]), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), len(rows), digest_states())


# %% forked-random: noise in the forward pass that leaves the random state as it was
class Noisy(Net):
    def forward(self, x):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            x = x + 0.1 * torch.randn_like(x)
        return super().forward(x)


net = Noisy()
before = torch.get_rng_state()
show(train(net, 4))
print(torch.equal(before, torch.get_rng_state()), torch.initial_seed(), torch.rand(2).tolist())


# %% own-generators: generators of the script's own for weights, noise and order
def digest(generator):
    return hashlib.md5(generator.get_state().numpy().tobytes()).hexdigest()


first = torch.Generator().manual_seed(11)
second = torch.Generator().manual_seed(2**40 + 5)
net = Net()
for parameter in net.parameters():
    nn.init.uniform_(parameter, -0.3, 0.3, generator=first)
optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01)
for step in range(4):
    rows = torch.randperm(48, generator=second)[:32]
    noise = torch.empty(32, 12).normal_(generator=first)
    loss = F.cross_entropy(net(inputs[rows] + 0.1 * noise), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), digest(first), digest(second))
copied = second.clone_state()
print(torch.rand(1, generator=copied).item() == torch.rand(1, generator=second).item())
print(second.initial_seed(), digest(torch.default_generator))


# %% three-randoms: augments in Python, numpy and torch, one seeded from the other
import random

import numpy as np

random.seed(torch.randint(1000, ()).item())
generator = np.random.default_rng(random.randrange(10**6))
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    kept = torch.from_numpy(generator.random(inputs.shape) > 0.1)
    shift = random.gauss(0, 0.05)
    torch.manual_seed(int(generator.integers(2**31)))
    noisy = inputs * kept + shift + 0.01 * torch.randn_like(inputs)
    loss = F.cross_entropy(net(noisy), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), random.random(), generator.random(), torch.rand(()).item())


# %% tensorboard-writer [tensorboard]: scalars, histograms and graph for TensorBoard, read again
import shutil
import warnings

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

warnings.simplefilter("ignore", torch.jit.TracerWarning)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
with SummaryWriter("board") as writer:
    writer.add_graph(net, inputs[:2])
    for step in range(4):
        (loss,) = train(net, 1, optimizer)
        writer.add_scalar("loss", loss, step)
        for name, parameter in net.named_parameters():
            writer.add_histogram(name, parameter, step)
            writer.add_histogram(f"{name}.grad", parameter.grad, step)
events = EventAccumulator("board").Reload()
print([(event.step, event.value) for event in events.Scalars("loss")])
print(sorted(events.Tags()["histograms"]), events.Tags()["graph"])
print(len(events.Graph().node), events.Histograms("out.weight")[-1].histogram_value.num)
shutil.rmtree("board")


# %% pickled-optimiser: pickles optimisers between steps, prints sizes, and uses a copy
import hashlib
import pickle

net = Net()
for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop):
    optimizer = kind(net.parameters(), lr=0.01)
    show(train(net, 2, optimizer))
    content = pickle.dumps(optimizer)
    print(kind.__name__, len(content), sorted(vars(optimizer)), optimizer)
    other = pickle.loads(content)
    print(other.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys())
    content = pickle.dumps({"net": net, "optimizer": optimizer})
    print(len(content))


# %% attributes-of-objects: prints attributes and hooks of a network, its layers and an optimiser
net = Net()
optimizer = torch.optim.Adam(net.parameters())
for _ in range(2):
    show(train(net, 2, optimizer))
    for module in net.modules():
        own = {name: value for name, value in vars(module).items() if "hook" in name}
        print(
            type(module).__name__,
            sorted(vars(module)),
            [len(value or ()) for value in own.values()],
        )
        print(
            "forward" in vars(module),
            "__call__" in vars(type(module)),
            type(module).__mro__[-2].__name__,
        )
    print(
        sorted(vars(optimizer)),
        [len(value) for value in vars(optimizer).values() if isinstance(value, dict)],
    )
    for parameter in net.parameters():
        print(vars(parameter), parameter._backward_hooks, parameter._post_accumulate_grad_hooks)


# %% functions-and-signatures: names and signatures of functions of torch around training
import inspect

functions = [
    F.cross_entropy,
    F.mse_loss,
    F.dropout,
    F.nll_loss,
    torch.Tensor.backward,
    torch.autograd.backward,
]
functions += [
    torch.autograd.grad,
    torch.optim.SGD.step,
    torch.optim.Adam.step,
    torch.optim.Optimizer.zero_grad,
]
functions += [
    nn.Module.__call__,
    nn.Module.forward,
    nn.Module.train,
    nn.Linear.forward,
    torch.save,
    torch.load,
]
functions += [
    nn.Module.__init__,
    torch.optim.Optimizer.__init__,
    Spike.forward,
    Spike.backward,
    LIF.forward,
]
functions += [
    torch.nn.utils.clip_grad_norm_,
    torch.utils.data.DataLoader.__iter__,
    nn.Module.load_state_dict,
]


def describe():
    for function in functions:
        name = f"{function.__module__}.{function.__qualname__}"
        print(name, inspect.signature(function), len(inspect.unwrap(function).__code__.co_varnames))


class Telling(Net):
    def forward(self, x):
        describe()
        return super().forward(x)


describe()
show(train(Net()))
show(train(Telling(), 1))
print(
    torch.argmax.__name__,
    torch.Tensor.eq.__name__,
    torch.nn.Module.__call__.__name__,
    Spike.apply.__name__,
)
print(
    F.cross_entropy is torch.nn.functional.cross_entropy,
    nn.modules.loss.F.cross_entropy is F.cross_entropy,
)


# %% functions-pickled: pickles functions, partials and methods in a table of settings
import functools
import pickle

settings = {
    "loss": functools.partial(F.cross_entropy, label_smoothing=0.1),
    "activation": F.relu,
    "optimizer": functools.partial(torch.optim.SGD, lr=0.1),
    "clip": nn.utils.clip_grad_norm_,
    "initial": nn.init.xavier_uniform_,
    "backward": torch.Tensor.backward,
    "layer": nn.Linear,
    "step": torch.optim.Adam.step,
    "decide": torch.argmax,
    "spike": Spike,
}
net = Net()
optimizer = settings["optimizer"](net.parameters())
for step in range(4):
    loss = settings["loss"](net(inputs), labels)
    optimizer.zero_grad()
    settings["backward"](loss)
    settings["clip"](net.parameters(), 1.0)
    optimizer.step()
    print(loss.item().hex(), len(pickle.dumps(settings)))
again = pickle.loads(pickle.dumps(settings))
print([name for name in settings if again[name] is settings[name]])
torch.save(settings, "settings.pt")
print(len(torch.load("settings.pt", weights_only=False)))


# %% state-dict-hooks: extra state, hooks around saving and loading, and their calls
calls = []


class Counted(Net):
    def __init__(self):
        super().__init__()
        self.steps = 0
        self.register_state_dict_post_hook(lambda *given: calls.append("saved"))
        self.register_state_dict_pre_hook(lambda *given: calls.append("saving"))
        self.register_load_state_dict_pre_hook(lambda *given: calls.append("loading"))
        self.register_load_state_dict_post_hook(lambda *given: calls.append("loaded"))

    def forward(self, x):
        self.steps += 1
        return super().forward(x)

    def get_extra_state(self):
        calls.append("extra")
        return {"steps": self.steps}

    def set_extra_state(self, state):
        self.steps = state["steps"]


net = Counted()
show(train(net, 3))
state = net.state_dict()
other = Counted()
print(other.load_state_dict(state, assign=True), other.steps)
print(other.out.weight is state["out.weight"])
del state["out.bias"], state["_extra_state"]
print(other.load_state_dict(state, strict=False))
show(train(other, 2))
print(calls)


# %% old-format: saves in the format before 1.6, by other pickle protocols, into memory
import io
import pickle

net = Net()
show(train(net, 2))
for options in (
    {"_use_new_zipfile_serialization": False},
    {"pickle_protocol": 4},
    {"pickle_module": pickle},
):
    memory = io.BytesIO()
    torch.save(net, memory, **options)
    print(len(memory.getvalue()), memory.getvalue()[:4])
    memory.seek(0)
    copied = torch.load(memory, weights_only=False, map_location=lambda storage, place: storage)
    show(train(copied, 1))


# %% shared-memory-of-arrays: weights and data share memory with numpy arrays that change
import numpy as np

array = np.random.default_rng(0).random((48, 12), dtype=np.float32)
data = torch.from_numpy(array)
net = Net()
weights = net.hidden.weight.detach().numpy()
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
for step in range(5):
    np.clip(weights, -0.2, 0.2, out=weights)
    array += 0.1
    loss = F.cross_entropy(net(data), labels)
    optimizer.zero_grad()
    loss.backward()
    gradient = np.from_dlpack(net.out.bias.grad)
    optimizer.step()
    print(loss.item().hex(), float(weights.sum()).hex(), float(gradient.sum()).hex())
back = torch.from_dlpack(array)
print(back.data_ptr() == data.data_ptr(), bool((np.abs(weights) <= 0.7).all()))


# %% graph-of-autograd: walks the graph of the loss and prints the names of its nodes at every step
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def list_nodes(node, found):
    if node is None or node in found:
        return found
    found.append(node)
    for following, _ in node.next_functions:
        list_nodes(following, found)
    return found


for step in range(3):
    outputs = net(inputs)
    loss = F.cross_entropy(outputs, labels)
    nodes = list_nodes(loss.grad_fn, [])
    print(len(nodes), [node.name() for node in nodes][:12])
    print(
        type(outputs.grad_fn).__name__,
        type(loss.grad_fn).__name__,
        loss._version,
        outputs._backward_hooks,
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), net.out.weight._version, net.out.weight.is_leaf)


# %% printed-networks: prints networks, optimisers and tensors with options of its own
torch.set_printoptions(precision=3, sci_mode=True, linewidth=70, threshold=20, edgeitems=2)


class Named(LIF):
    def extra_repr(self):
        return f"decay={self.decay}"


net = Net()
net.neurons = Named()
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(3):
    loss = criterion(net(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss, net.out.bias.grad)
print(net, criterion, optimizer, sep="\n")
print(net.hidden.weight, repr(net.forward).split(" object")[0], net.hidden.forward.__qualname__)


# %% swapped-tensors: exchanges tensors of parameters, which no weak reference may hold
torch.__future__.set_swap_module_params_on_conversion(True)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
show(train(net, 2, optimizer))
weight = net.hidden.weight
net.double()
inputs = inputs.double()
print(net.hidden.weight is weight, weight.dtype)
for parameter in net.parameters():
    parameter.grad = None
show(train(net, 3, optimizer))
net.float()
inputs = inputs.float()
net.load_state_dict(Net().state_dict())
print(net.hidden.weight is weight, weight.dtype)
net.zero_grad()
show(train(net, 2))


# %% best-checkpoint: keeps the best three checkpoints and stops early
import hashlib
from pathlib import Path

folder = Path("checkpoints")
folder.mkdir()
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.3)
scores = {}
patience = 0
for epoch in range(12):
    (loss,) = train(net, 1, optimizer)
    path = folder / f"epoch-{epoch:02}.pt"
    torch.save({"epoch": epoch, "net": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
    patience = 0 if loss < min(scores.values(), default=9) else patience + 1
    scores[path] = loss
    for worse in sorted(scores, key=scores.get)[3:]:
        worse.unlink()
        del scores[worse]
    if patience == 3:
        break
print("stopped at", epoch)
for path in sorted(folder.iterdir()):
    content = path.read_bytes()
    print(path, len(content), hashlib.sha256(content).hexdigest(), scores[path].hex())


# %% grad-off-by-default: switches gradients off for the whole script and on only where it trains
torch.set_grad_enabled(False)
torch.set_flush_denormal(True)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
for step in range(4):
    print(torch.is_grad_enabled(), net(inputs).requires_grad)
    with torch.enable_grad():
        show(train(net, 1, optimizer))
    with torch.inference_mode():
        outputs = net(inputs)
    print(outputs.is_inference(), (outputs.argmax(1) == labels).sum().item())
print(
    torch.is_grad_enabled(),
    torch.is_inference_mode_enabled(),
    (torch.tensor(1e-310, dtype=torch.float64) / 2).item(),
)


# %% rate-finder: raises the rate for a few steps, and goes back to where everything was
import copy

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
kept = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
random_state = torch.random.get_rng_state()
found = []
for _ in range(8):
    rows = torch.randint(48, (24,))
    loss = F.cross_entropy(net(inputs[rows]), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    found.append((loss.item(), optimizer.param_groups[0]["lr"]))
    optimizer.param_groups[0]["lr"] *= 3
net.load_state_dict(kept[0])
optimizer.load_state_dict(kept[1])
torch.random.set_rng_state(random_state)
rate = min(found)[1]
optimizer.param_groups[0]["lr"] = rate
rows = torch.randint(48, (24,))
print(found[0][0] == F.cross_entropy(net(inputs[rows]), labels[rows]).item(), rate)
show(train(net, 3, optimizer))
