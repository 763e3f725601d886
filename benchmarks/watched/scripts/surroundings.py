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


# %% warnings-as-errors: every warning is an error while a spiking network trains
import warnings

warnings.simplefilter("error")
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
show(train(net, 5, optimizer))
outputs = net(inputs)
(gradient,) = torch.autograd.grad(outputs.square().mean(), [net.out.weight])
print(gradient.norm().item().hex(), len(warnings.filters))
try:
    F.mse_loss(outputs, labels.float()[:, None])
except UserWarning as warning:
    print(type(warning).__name__, str(warning)[:40])


# %% warnings-recorded: records and counts warnings, its own and torch's, in and behind a step
import warnings

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
for step in range(3):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if step == 1:
            warnings.warn("a step of the script", RuntimeWarning)
            net(inputs).grad
        show(train(net, 1, optimizer))
        schedule.step()
    print([(warning.category.__name__, str(warning.message)[:30]) for warning in caught])
print(len(warnings.filters), warnings.showwarning.__name__, warnings.formatwarning.__name__)


# %% warnings-once: warnings shown once for each place, by a function of the script's own
import sys
import warnings

shown = []


def show_warning(message, category, filename, lineno, file=None, line=None):
    shown.append(str(message))
    print("warned:", message, file=sys.stderr)


class Warning_(Net):
    def forward(self, x):
        warnings.warn("activity is low")
        if x.mean() > 1:
            warnings.warn("input is large", FutureWarning)
        return super().forward(x)


warnings.showwarning = show_warning
net = Warning_()
show(train(net, 4))
inputs = inputs * 3
show(train(net, 2))
warnings.simplefilter("once")
show(train(net, 2))
print(shown, "__warningregistry__" in globals(), warnings.showwarning is show_warning)


# %% log-handlers: sets up logging once, with a handler of its own, a file, and levels by name
import logging
from pathlib import Path


class Collect(logging.Handler):
    records = []

    def emit(self, record):
        self.records.append((record.name, record.levelname, record.getMessage()))


root = logging.getLogger()
print(root.handlers, logging.getLevelName(root.level), logging.lastResort is not None)
logging.basicConfig(filename="log.txt", level="INFO", format="%(name)s %(levelname)s %(message)s")
root.addHandler(Collect())
log = logging.getLogger("training.spikes")
net = Net()
for step in range(4):
    (loss,) = train(net, 1)
    log.info("step %d: %s", step, loss.hex())
    log.debug("not shown")
log.warning("done")
print(Path("log.txt").read_text())
print(Collect.records, [type(handler).__name__ for handler in root.handlers])


# %% own-excepthook: prints errors by an excepthook of its own (status 1)
import sys


def report(kind, error, trace):
    depth = 0
    while trace is not None:
        depth += trace.tb_frame.f_code.co_filename == __file__
        trace = trace.tb_next
    print(f"the training ended: {kind.__name__}: {error} in {depth} frames of the script")


print(sys.excepthook is sys.__excepthook__)
sys.excepthook = report
net = Net()
show(train(net, 3))
labels = labels[:-1]
train(net, 1)


# %% at-exit: functions at exit that print in reverse order, and finalizers of objects
import atexit
import sys
import weakref

net = Net()
atexit.register(print, "first registered")


@atexit.register
def evaluate():
    with torch.no_grad():
        right = (net(inputs).argmax(1) == labels).sum().item()
        print(right, "right at exit", torch.is_grad_enabled())


weakref.finalize(net, print, "network finalised")
atexit.register(lambda: print(len(losses), "losses", sys.stdout is sys.__stdout__))
losses = train(net, 4)
show(losses)
atexit.unregister(print)


# %% alarm-signal: an alarm in the middle of the training, and signals to itself
import os
import signal

received = []


def receive(number, frame):
    received.append((signal.Signals(number).name, frame is not None))


print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGALRM))
signal.signal(signal.SIGALRM, receive)
signal.signal(signal.SIGUSR1, receive)
signal.signal(signal.SIGTERM, receive)
net = Net()
show(train(net, 2))
signal.setitimer(signal.ITIMER_REAL, 0.2)
while not received:
    train(Net(), 1)
show(train(net, 2))
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGTERM)
print(received, signal.getitimer(signal.ITIMER_REAL), signal.pthread_sigmask(signal.SIG_BLOCK, []))


# %% time-limit: an exception from a signal handler ends a training that takes too long
import signal


class TooLong(Exception):
    pass


def stop(number, frame):
    raise TooLong(f"signal {number}")


signal.signal(signal.SIGALRM, stop)
net = Net()
show(train(net, 3))
copied = {name: value.clone() for name, value in net.state_dict().items()}
try:
    signal.alarm(1)
    while True:
        train(net, 1)
except TooLong as error:
    print(repr(error))
net.load_state_dict(copied)
show(train(net, 2))


# %% closed-stdin: closes file descriptor 0 at the start, and opens files that get its number
import os

os.close(0)
net = Net()
log = open("losses.txt", "w")
print(log.fileno())
losses = train(net, 4)
log.writelines(loss.hex() + "\n" for loss in losses)
log.close()
print(os.path.getsize("losses.txt"), os.open(".", os.O_RDONLY))
show(train(net, 2))


# %% closed-stdout: closes descriptors 1 and 2 at the end, as a daemon does, and writes a file
import os
import sys

net = Net()
show(train(net, 3))
sys.stdout.flush()
sys.stderr.flush()
os.close(1)
os.close(2)
losses = train(net, 3)
with open("daemon.txt", "w") as file:
    print(*[loss.hex() for loss in losses], file=file)


# %% redirected-stdout: sends output elsewhere by contextlib, by replacing and by descriptor
import contextlib
import io
import os
import sys

net = Net()
memory = io.StringIO()
with contextlib.redirect_stdout(memory), contextlib.redirect_stderr(memory):
    show(train(net, 3))
    print("errors too", file=sys.stderr)
print(len(memory.getvalue()), memory.getvalue().split()[-1])
kept = sys.stdout
sys.stdout = io.StringIO()
show(train(net, 2))
captured, sys.stdout = sys.stdout.getvalue(), kept
print(captured.strip())
sys.stdout.flush()
saved = os.dup(1)
target = os.open("printed.txt", os.O_WRONLY | os.O_CREAT)
os.dup2(target, 1)
show(train(net, 2))
sys.stdout.flush()
os.dup2(saved, 1)
show(train(net, 1))
print(open("printed.txt").read().strip())


# %% copied-stdout: an object that is hardly a file copies what is printed to a file
import sys


class Tee:
    def __init__(self, stream):
        self.stream = stream
        self.file = open("printed.log", "w")
        self.writes = 0

    def write(self, text):
        self.writes += 1
        self.stream.write(text)
        self.file.write(text)

    def flush(self):
        self.stream.flush()
        self.file.flush()


sys.stdout = Tee(sys.stdout)
sys.stderr = Tee(sys.stderr)
net = Net()
for step in range(4):
    show(train(net, 1))
print("writes", sys.stdout.writes, sys.stderr.writes)
sys.stdout.flush()


# %% raw-bytes: writes bytes to the buffer and the descriptor of stdout, and to stderr
import os
import sys

net = Net()
for step in range(3):
    (loss,) = train(net, 1)
    print(f"step {step}", end=" ", flush=True)
    sys.stdout.buffer.write(loss.hex().encode() + b"\n")
    sys.stdout.buffer.flush()
    os.write(1, b"\xe2\x9a\xa1 spikes\n")
    os.write(2, b"to stderr\n")
print(sys.stdout.encoding, sys.stdout.errors, sys.stdout.mode, sys.stdout.name)


# %% replaced-print: print counts its calls and numbers its lines
import builtins

printed = builtins.print
lines = []


def print(*values, **options):
    lines.append(len(values))
    printed(f"{len(lines)}:", *values, **options)


builtins.print = print
net = Net()
for step in range(4):
    (loss,) = train(net, 1)
    print(step, loss.hex())
printed(lines)


# %% replaced-json: json.dumps and the encoder know tensors, and count what they write
import json

counted = []
dumps = json.dumps


class Encoder(json.JSONEncoder):
    def default(self, value):
        if isinstance(value, torch.Tensor):
            return value.tolist()
        return super().default(value)


def own_dumps(value, **options):
    counted.append(type(value).__name__)
    return dumps(value, cls=Encoder, sort_keys=True, separators=(",", ":"))


json.dumps = own_dumps
json.JSONEncoder.item_separator = ";"
json.encoder.FLOAT_REPR = repr
net = Net()
losses = train(net, 4)
text = json.dumps({"losses": losses, "bias": net.out.bias.detach(), "name": "net"})
print(text)
print(counted, json.dumps is own_dumps)


# %% replaced-builtins: open, sum, sorted and len of builtins log how the script uses them
import builtins
import sys

used = []


def logged(function):
    def call(*given, **options):
        if sys._getframe(1).f_globals.get("__name__") == "__main__":
            used.append(function.__name__)
        return function(*given, **options)

    return call


for name in ("open", "sum", "sorted", "isinstance", "len"):
    setattr(builtins, name, logged(getattr(builtins, name)))
net = Net()
losses = train(net, 4)
with open("sum.txt", "w") as file:
    file.write(sum(losses).hex())
print(sorted(losses)[0].hex(), len(losses), isinstance(net, nn.Module), used)
show(train(net, 2))


# %% shadowed-names: names of builtins and modules are variables of the script
list = ["spikes"]
str = 3
max = inputs.max()
id = "run"
type = "LIF"
dict = {"steps": 4}
input = inputs
len = labels.numel()
sys = "a system"
os = None
re = 0.5
json = {"a": 1}
net = Net()
show(train(net, dict["steps"]))
print(list, str, max.item().hex(), id, type, len, sys, os, re, json)


# %% end-of-input: reads standard input, which is at its end
import sys

print(sys.stdin.isatty(), repr(sys.stdin.read()), sys.stdin.readlines(), list(sys.stdin))
net = Net()
show(train(net, 3))
try:
    input()
except EOFError as error:
    print(type(error).__name__)
show(train(net, 2))
print(sys.stdin.fileno(), sys.stdin.closed)


# %% arguments: argparse with defaults and flags, and sys.argv as the script was called
import argparse
import os
import sys

parser = argparse.ArgumentParser(description="Trains a spiking network.")
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--rate", type=float, default=0.02)
parser.add_argument("--every", action="store_true")
options = parser.parse_args()
print([os.path.basename(argument) for argument in sys.argv], vars(options), parser.prog)
net = Net()
show(train(net, options.steps, torch.optim.Adam(net.parameters(), lr=options.rate)))
print(parser.format_usage().strip(), parser.parse_known_args(["--steps", "2", "--json"])[1])
sys.argv.append("--every")
print(parser.parse_args().every)


# %% argument-error: a command line that argparse refuses after the first steps (status 2)
import argparse

net = Net()
show(train(net, 3))
parser = argparse.ArgumentParser(prog="train")
parser.add_argument("--optimizer", choices=["sgd", "adam"])
parser.parse_args(["--optimizer", "none"])


# %% main-inspected: what the module __main__ says about itself
import __main__
import importlib.util
import inspect
import os
import sys

print(__name__, os.path.basename(__file__), __spec__, __package__, __doc__)
print(type(__loader__).__name__)
print(sys.modules["__main__"] is __main__, __main__.Net is Net, os.path.basename(__main__.__file__))
print(Net.__module__, Net.__qualname__, train.__module__, train.__globals__ is vars(__main__))
print(train.__globals__ is globals(), os.path.basename(train.__code__.co_filename), __builtins__)
print(inspect.getmodule(Net) is __main__, os.path.basename(inspect.getsourcefile(Net)))
print(inspect.getsource(LIF).splitlines()[0], os.path.isabs(__file__))
print(
    os.path.basename(sys.path[0]) == os.path.basename(os.getcwd()),
    importlib.util.find_spec("script").name,
)
show(train(Net(), 4))


# %% started-as-main: everything in main(), below a test of __name__
import sys


def main(arguments):
    net = Net()
    losses = train(net, 5)
    show(losses)
    return 0 if losses[-1] < losses[0] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


# %% stack-of-frames: prints the script's frames in forward pass, hooks, backward and step
import inspect
import os
import sys


def own_frames():
    own = os.path.basename(__file__)
    frames = [frame for frame in inspect.stack(0) if os.path.basename(frame.filename) == own]
    return [frame.function for frame in frames[1:]]


class Looking(Net):
    def forward(self, x):
        print("forward", own_frames(), sys._getframe(0).f_code.co_name)
        return super().forward(x)


class Step(torch.optim.SGD):
    def step(self, closure=None):
        print("step", own_frames(), sorted(sys._getframe(0).f_locals))
        return super().step(closure)


net = Looking()
net.out.weight.register_hook(lambda gradient: print("backward", own_frames()))
net.register_forward_hook(lambda *given: print("hook", own_frames(), len(given)))
show(train(net, 2, Step(net.parameters(), lr=0.1)))


# %% modules-replaced: puts modules of its own into sys.modules, and takes one out
import importlib
import sys
import types

plugin = types.ModuleType("spiking_plugin", "Made at run time.")
plugin.Net = Net
sys.modules["spiking_plugin"] = plugin
sys.modules["numba"] = None
from spiking_plugin import Net as Plugin

for name in ("colorsys", "wave"):
    sys.modules.pop(name, None)
import colorsys

try:
    import numba
except ImportError as error:
    print(type(error).__name__)
net = Plugin()
show(train(net, 4))
print(sys.modules["spiking_plugin"].__doc__, colorsys.rgb_to_hsv(1, 0, 0), "wave" in sys.modules)
del sys.modules["spiking_plugin"]
try:
    importlib.import_module("spiking_plugin")
except ModuleNotFoundError as error:
    print(error.name)


# %% import-hook: a finder that makes modules from strings, and forbids some packages
import importlib.abc
import importlib.util
import sys

sources = {"neurons": "import torch\ncalls = 0\ndef fire(u):\n    return (u > 0).float()\n"}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    asked = []

    def find_spec(self, name, path, target=None):
        if name in ("brian2", "nest"):
            raise ImportError(f"{name} is not to be used")
        if name in sources:
            self.asked.append(name)
            return importlib.util.spec_from_loader(name, self)
        return None

    def exec_module(self, module):
        exec(sources[module.__name__], vars(module))


sys.meta_path.insert(0, Finder())
import neurons

net = Net()
show(train(net, 4))
try:
    import brian2
except ImportError as error:
    print(error)
import neurons as again

print(
    Finder.asked,
    again is neurons,
    neurons.fire(torch.tensor([1.0, -1.0])).tolist(),
    type(sys.meta_path[0]).__name__,
)


# %% collector: callbacks of the garbage collector, and a count of the script's own objects
import gc

collections = []
gc.disable()
gc.callbacks.append(lambda phase, details: collections.append((phase, details["generation"])))


def count_objects():
    kinds = [type(thing).__name__ for thing in gc.get_objects()]
    return [kinds.count(name) for name in ("Net", "LIF", "Linear", "Adam", "Batch")]


class Batch:
    def __init__(self, rows):
        self.rows = rows
        self.itself = self


net = Net()
optimizer = torch.optim.Adam(net.parameters())
for step in range(4):
    batch = Batch(torch.randperm(48)[:32])
    loss = F.cross_entropy(net(inputs[batch.rows]), labels[batch.rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), count_objects())
gc.collect()
print(count_objects(), collections, gc.isenabled(), gc.get_threshold()[0] > 0)
gc.enable()


# %% death-of-a-network: weak references to networks and optimisers die with them
import gc
import weakref

for kind in (torch.optim.SGD, torch.optim.Adam):
    net = Net()
    optimizer = kind(net.parameters(), lr=0.01)
    show(train(net, 3, optimizer))
    loss = F.cross_entropy(net(inputs), labels)
    loss.backward()
    parameters = [weakref.ref(parameter) for parameter in net.parameters()]
    things = [net, net.neurons, optimizer, loss, net.out.weight.grad]
    watched = [weakref.ref(thing) for thing in things]
    things.clear()
    print([reference() is None for reference in watched])
    del net, optimizer, loss
    gc.collect()
    print(
        [reference() is None for reference in watched],
        [reference() is None for reference in parameters],
    )


# %% death-at-once: activations and networks die without the collector when nobody needs them
import gc
import weakref

gc.collect()
gc.disable()
references = {}


class Weak(Net):
    def forward(self, x):
        hidden = self.hidden(x)
        spikes = self.neurons(hidden.expand(4, -1, -1))
        references["hidden"] = weakref.ref(hidden)
        references["spikes"] = weakref.ref(spikes)
        return self.out(spikes).mean(0)

    def __del__(self):
        print("network deleted")


net = Weak()
for step in range(4):
    outputs = net(inputs)
    loss = F.cross_entropy(outputs, labels)
    references["outputs"] = weakref.ref(outputs)
    del outputs
    print(sorted((name, reference() is None) for name, reference in references.items()))
    net.zero_grad()
    loss.backward()
    references["loss"] = weakref.ref(loss)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.2 * parameter.grad
    print(loss.item().hex())
    del loss
    print(references["loss"]() is None)
del net, parameter
print("end")
gc.enable()


# %% deleted-data: data sets that print when they are deleted, between and behind the steps
class Data:
    def __init__(self, name, rows):
        self.name = name
        self.x, self.y = inputs[rows], labels[rows]

    def __del__(self):
        print("deleted", self.name)


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(4):
    data = Data(f"batch {step}", slice(8 * step, 8 * step + 16))
    loss = F.cross_entropy(net(data.x), data.y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item().hex())
del data
print("all steps done")


# %% fork-in-the-middle: forks in the middle; the child trains on, writes a file and leaves
import os
import sys

net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
show(train(net, 2, optimizer))
sys.stdout.flush()
child = os.fork()
if child == 0:
    losses = train(net, 3, torch.optim.SGD(net.parameters(), lr=0.1))
    with open("child.txt", "w") as file:
        file.write(" ".join(loss.hex() for loss in losses))
    os._exit(7)
show(train(net, 2, optimizer))
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), open("child.txt").read())


# %% fork-that-returns: the child of a fork ends by sys.exit, as the parent does (status 5)
import os
import sys

net = Net()
show(train(net, 2))
sys.stdout.flush()
child = os.fork()
losses = train(net, 2)
if child == 0:
    with open("child.txt", "w") as file:
        file.write(losses[-1].hex())
    sys.exit(3)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), open("child.txt").read(), losses[-1].hex())
sys.exit(5)


# %% exit-code: ends with a number as its status (status 3)
import sys

net = Net()
losses = train(net, 4)
show(losses)
if losses[-1] > 0.1:
    sys.exit(3)


# %% exit-message: ends with a sentence, which is printed to stderr (status 1)
import sys

net = Net()
losses = train(net, 4)
show(losses)
sys.exit(f"loss {losses[-1].hex()} is too large")


# %% exit-in-forward: a network ends the script in its forward pass (status 4)
class Impatient(Net):
    calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 4:
            raise SystemExit(4)
        return super().forward(x)


net = Impatient()
try:
    for step in range(10):
        show(train(net, 1))
finally:
    print("cleaned up after", net.calls)


# %% exit-at-once: ends by os._exit without any cleaning up (status 6)
import os
import sys

net = Net()
show(train(net, 4))
sys.stdout.flush()
os._exit(6)


# %% error-of-shapes: an error of torch in the middle ends the script (status 1)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def one_step(x):
    loss = F.cross_entropy(net(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())


for width in (12, 12, 12, 11):
    one_step(inputs[:, :width])


# %% errors-caught: catches errors of forward pass, backward pass and loss, and prints them
import sys
import traceback


def describe(error):
    print("".join(traceback.format_exception_only(error)).strip().splitlines()[0])
    frames = traceback.extract_tb(error.__traceback__)
    own = [(frame.name, frame.line) for frame in frames if frame.filename == __file__]
    print(own, error.__cause__, error.__context__, getattr(error, "__notes__", []))


net = Net()
attempts = [
    lambda: net(inputs[:, :5]),
    lambda: F.cross_entropy(net(inputs), labels + 3).backward(),
    lambda: net(inputs).backward(),
    lambda: F.cross_entropy(net(inputs).detach(), labels).backward(),
    lambda: net.neurons(None),
    lambda: torch.optim.SGD([], lr=0.1),
]
for attempt in attempts:
    try:
        attempt()
    except Exception as error:
        describe(error)
    show(train(net, 1))
print(sys.exc_info())


# %% chained-errors: errors raised from others, with notes, as a group (status 1)
class TrainingError(Exception):
    pass


net = Net()
show(train(net, 3))
try:
    try:
        train(net.out, 1)
    except RuntimeError as error:
        problem = TrainingError("the training failed")
        problem.add_note("sizes of the layers differ")
        raise problem from error
except TrainingError as error:
    print(repr(error), error.__notes__, type(error.__cause__).__name__)
    show(train(net, 2))
    raise ExceptionGroup("all that failed", [error, ValueError("steps")]) from None


# %% interrupted-and-saved: a KeyboardInterrupt of its own, after which it saves a checkpoint
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
try:
    for step in range(100):
        show(train(net, 1, optimizer))
        if step == 3:
            raise KeyboardInterrupt
except KeyboardInterrupt:
    print("interrupted at", step)
    torch.save(net.state_dict(), "interrupted.pt")
net.load_state_dict(torch.load("interrupted.pt"))
show(train(net, 2, optimizer))


# %% interrupted: a KeyboardInterrupt that nobody catches ends the script (status -2)
net = Net()
for step in range(100):
    show(train(net, 1))
    if step == 2:
        raise KeyboardInterrupt


# %% recursion-limit: a low limit of recursion, and a network that is applied recursively
import sys

net = Net()
show(train(net, 1))
sys.setrecursionlimit(200)


def repeat(x, times):
    if times == 0:
        return x
    return repeat(x + 0.1 * net.hidden(x)[:, :12], times - 1)


optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(4):
    loss = F.cross_entropy(net(repeat(inputs, 20)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), sys.getrecursionlimit())
try:
    repeat(inputs, 1000)
except RecursionError as error:
    print(type(error).__name__)


# %% interpreter: flags, options and hooks of the interpreter that runs the script
import sys
import threading

print(
    sys.flags.optimize,
    sys.flags.interactive,
    sys.flags.isolated,
    sys.flags.no_site,
    sys.warnoptions,
)
print(sys._xoptions, sys.getswitchinterval(), sys.getdlopenflags() > 0, sys.float_info.epsilon)
print(sys.displayhook is sys.__displayhook__, sys.breakpointhook is sys.__breakpointhook__)
print(sys.excepthook is sys.__excepthook__, sys.unraisablehook is sys.__unraisablehook__)
print(threading.excepthook is threading.__excepthook__, sys.gettrace(), sys.getprofile())
print(
    [thread.name for thread in threading.enumerate()],
    threading.main_thread() is threading.current_thread(),
)
print(sys.stdout is sys.__stdout__, sys.getrecursionlimit(), sys.get_asyncgen_hooks().finalizer)
show(train(Net(), 4))
print(hasattr(sys, "ps1"), hasattr(sys, "last_value"), sys.exc_info(), __debug__)


# %% unraisable: errors in __del__, in threads and in callbacks go to hooks of the script
import sys
import threading
import weakref

caught = []
sys.unraisablehook = lambda details: caught.append(("unraisable", type(details.exc_value).__name__))
threading.excepthook = lambda details: caught.append(("thread", details.exc_type.__name__))


class Fragile:
    def __del__(self):
        raise ValueError("in __del__")


net = Net()
for step in range(3):
    fragile = Fragile()
    show(train(net, 1))
del fragile
reference = weakref.ref(nn.Linear(1, 1), lambda gone: 1 / 0)
thread = threading.Thread(target=lambda: net(inputs[:, :2]))
thread.start()
thread.join()
show(train(net, 2))
print(caught)


# %% locale-of-numbers: sets the locale, and prints numbers and dates in it
import locale
import time

print(locale.setlocale(locale.LC_ALL), locale.localeconv()["decimal_point"])
print(locale.setlocale(locale.LC_NUMERIC, "C"), locale.getpreferredencoding(False))
for name in ("de_DE.UTF-8", "C.UTF-8"):
    try:
        print(locale.setlocale(locale.LC_ALL, name))
    except locale.Error:
        print("not installed")
net = Net()
losses = train(net, 4)
print([locale.format_string("%.6f", loss) for loss in losses], locale.str(losses[0]))
print(time.strftime("%A %d %B", time.gmtime(0)), locale.setlocale(locale.LC_NUMERIC))


# %% environment: variables of the environment that it sets, reads, passes on and deletes
import os
import subprocess
import sys

before = dict(os.environ)
os.environ["SPIKING_STEPS"] = "3"
os.environ["SPIKING_RATE"] = "0.05"
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=float(os.environ["SPIKING_RATE"]))
show(train(net, int(os.environ["SPIKING_STEPS"]), optimizer))
code = "import os; print(sorted(name for name in os.environ if name.startswith('SPIKING')))"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
del os.environ["SPIKING_STEPS"], os.environ["SPIKING_RATE"]
print(
    dict(os.environ) == before,
    sorted(name for name in before if name.startswith(("PYTHONPATH", "PYTHONWARN"))),
)
os.environ.clear()
show(train(net, 2))
print(len(os.environ))
os.environ.update(before)


# %% changed-directory: changes the directory, and writes files that are relative to it
import os
from pathlib import Path

Path("runs/first").mkdir(parents=True)
start = Path.cwd()
os.chdir("runs")
net = Net()
show(train(net, 2))
torch.save(net.state_dict(), "first/net.pt")
os.chdir("first")
show(train(net, 2))
Path("note.txt").write_text("here")
net.load_state_dict(torch.load("net.pt"))
os.chdir(start)
print(sorted(str(path) for path in Path("runs").rglob("*")), Path(__file__).exists())
show(train(net, 2))


# %% deleted-script: moves its own file away and deletes its working directory
import inspect
import os

net = Net()
show(train(net, 1))
os.rename(__file__, "moved.txt")
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
show(train(net, 3))
try:
    os.getcwd()
except FileNotFoundError as error:
    print(type(error).__name__)
try:
    print(inspect.getsource(Net).count("\n"))
except OSError as error:
    print(error)
show(train(net, 2))
print(os.path.exists(__file__))
os.chdir(os.path.dirname(__file__))
os.rename("moved.txt", __file__)


# %% other-scripts: runs another script of its own as main, and a module by name
import runpy
import sys
from pathlib import Path

Path("other.py").write_text(
    "import torch\n"
    "from torch import nn\n"
    "class Small(nn.Linear):\n"
    "    pass\n"
    "torch.manual_seed(3)\n"
    "net = Small(4, 2)\n"
    "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
    "losses = []\n"
    "for step in range(3):\n"
    "    loss = net(torch.ones(5, 4)).square().mean()\n"
    "    optimizer.zero_grad()\n"
    "    loss.backward()\n"
    "    optimizer.step()\n"
    "    losses.append(loss.item())\n"
    "print(__name__, Small.__module__, __file__, [loss.hex() for loss in losses])\n"
)
show(train(Net(), 2))
values = runpy.run_path("other.py", run_name="__main__")
print(sorted(name for name in values if not name.startswith("_")), values["losses"][-1].hex())
sys.path.insert(0, ".")
values = runpy.run_module("other", run_name="imported")
show(train(Net(), 2))
print(sys.modules["__main__"].__dict__["Net"] is Net, "other" in sys.modules)


# %% reloaded-module: a module with a network that is changed and reloaded between steps
import importlib
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, "")
source = (
    "from torch import nn\n"
    "class Small(nn.Linear):\n"
    "    gain = {gain}\n"
    "    def __init__(self):\n"
    "        super().__init__(12, 3)\n"
    "    def forward(self, x):\n"
    "        return self.gain * super().forward(x)\n"
)
Path("small.py").write_text(source.format(gain=1.0))
import small

first = small.Small()
show(train(first, 3))
Path("small.py").write_text(source.format(gain=2.0) + "\n")
importlib.invalidate_caches()
importlib.reload(small)
second = small.Small()
print(isinstance(first, small.Small), isinstance(second, small.Small), type(first) is type(second))
show(train(second, 3))
first.__class__ = small.Small
show(train(first, 2))


# %% classes-pickled: pickles dataclasses, enumerations and networks of classes it defines
import dataclasses
import enum
import pickle
import typing


class Reset(enum.Enum):
    SOFT = "soft"
    HARD = "hard"


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 0.05
    reset: Reset = Reset.SOFT
    sizes: tuple = (12, 16, 3)


class Epoch(typing.NamedTuple):
    number: int
    loss: float


settings = Settings()
net = Net(settings.sizes[1])
optimizer = torch.optim.SGD(net.parameters(), lr=settings.rate)
epochs = [Epoch(number, train(net, 1, optimizer)[0]) for number in range(4)]
content = pickle.dumps((settings, epochs, net, Reset.HARD))
restored, history, copied, reset = pickle.loads(content)
print(len(content), restored == settings, history == epochs, reset is Reset.HARD)
print(
    content.count(b"__main__"),
    type(copied) is Net,
    dataclasses.asdict(restored)["reset"],
    history[-1].loss.hex(),
)
show(train(copied, 2))


# %% unpickled-elsewhere: a subprocess reads the weights and trains on
import pickle
import subprocess
import sys

reader = """
import pickle, sys
weights, losses = pickle.load(sys.stdin.buffer)
print(sorted(weights), sum(losses).hex(), sum(weights['out.bias'].tolist()).hex())
import torch
layer = torch.nn.Linear(16, 3)
layer.load_state_dict({name: weights['out.' + name] for name in ('weight', 'bias')})
layer(torch.ones(2, 16)).sum().backward()
print(layer.bias.grad.tolist(), [name for name in sys.modules if name.startswith('script')])
"""
net = Net()
losses = train(net, 4)
content = pickle.dumps((net.state_dict(), losses))
done = subprocess.run([sys.executable, "-c", reader], input=content, capture_output=True)
print(done.returncode, len(content), done.stdout.decode(), done.stderr.decode())


# %% annotations-at-run-time: reads type annotations, and checks arguments by them
import functools
import inspect
import typing


def checked(function):
    hints = typing.get_type_hints(function)

    @functools.wraps(function)
    def call(*given, **named):
        bound = inspect.signature(function).bind(*given, **named)
        for name, value in bound.arguments.items():
            if name in hints and not isinstance(value, hints[name]):
                raise TypeError(f"{name}: {hints[name].__name__}")
        return function(*given, **named)

    return call


class Typed(Net):
    steps: int = 0

    @checked
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return super().forward(x)


net = Typed()
show(train(net, 4))
print(
    net.steps,
    inspect.signature(net.forward),
    typing.get_type_hints(Typed.forward),
    Typed.__annotations__,
)
print(typing.get_type_hints(nn.Linear.forward), inspect.signature(torch.optim.SGD.step))
try:
    net([1.0])
except TypeError as error:
    print(error)


# %% doctests: tests in docstrings of the script, one of which trains
import doctest


def fire(potential):
    """Spikes where the potential is positive.

    >>> fire(torch.tensor([-1.0, 2.0]))
    tensor([0., 1.])
    >>> losses = train(Net(), 3)
    >>> losses[2] < losses[0]
    True
    >>> print(Net().neurons)
    LIF()
    >>> raise ValueError("low")
    Traceback (most recent call last):
    ValueError: low
    """
    return Spike.apply(potential)


print(doctest.testmod())
show(train(Net(), 2))


# %% unit-tests: runs tests of a network by unittest without leaving, and trains on
import io
import unittest


class TestNet(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.net = Net()

    def test_learns(self):
        losses = train(self.net, 6)
        self.assertLess(losses[-1], losses[0])

    def test_spikes(self):
        spikes = self.net.neurons(torch.randn(4, 2, 16))
        self.assertTrue(torch.all((spikes == 0) | (spikes == 1)))

    def test_sizes(self):
        with self.assertRaises(RuntimeError):
            self.net(inputs[:, :3])
        with self.assertWarns(UserWarning):
            F.mse_loss(torch.zeros(3), torch.zeros(1))
        with self.assertNoLogs():
            train(self.net, 1)


output = io.StringIO()
runner = unittest.TextTestRunner(output, verbosity=2)
program = unittest.main(argv=["tests"], exit=False, testRunner=runner)
print(program.result, [line for line in output.getvalue().splitlines() if line.startswith("test_")])
show(train(Net(), 3))


# %% context-variables: a context variable says which step it is, in copied contexts
import contextvars

timestep = contextvars.ContextVar("timestep", default=-1)
visited = []


class Contextual(LIF):
    def forward(self, currents):
        visited.append(timestep.get())
        return super().forward(currents)


def run(number):
    timestep.set(number)
    return train(net, 1)[0]


net = Net()
net.neurons = Contextual()
losses = []
for number in range(4):
    context = contextvars.copy_context()
    losses.append(context.run(run, number))
show(losses)
print(visited, timestep.get(), timestep in contextvars.copy_context())
token = timestep.set(9)
train(net, 1)
timestep.reset(token)
print(visited[-1], timestep.get())


# %% cells-of-strings: executes cells of a notebook that are strings, in one namespace
cells = [
    "import torch\nfrom torch import nn\ntorch.manual_seed(5)",
    "class Cell(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.fc1, self.fc2 = nn.Linear(12, 8), nn.Linear(8, 3)\n"
    "    def forward(self, x):\n"
    "        u = self.fc1(x)\n"
    "        return self.fc2(fire(u - 0.2))",
    "net = Cell()\nfire = Spike.apply",
    "losses = train(net, 4)",
    "losses[-1] < losses[0]",
]
namespace = {"Spike": Spike, "train": train}
for number, cell in enumerate(cells):
    try:
        print(number, eval(compile(cell, f"<cell {number}>", "eval"), namespace))
    except SyntaxError:
        exec(compile(cell, f"<cell {number}>", "exec"), namespace)
show(namespace["losses"])
print(namespace["Cell"].__module__, namespace["net"].forward.__code__.co_filename)


# %% spikes-by-comparison: neurons that compare, with the gradient of a sigmoid
class Compare(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        potential = torch.zeros(len(x), 16)
        total = 0
        for _ in range(4):
            potential = 0.9 * potential + self.fc1(x)
            smooth = torch.sigmoid(4 * (potential - 1))
            spikes = (potential > 1).float()
            spikes = spikes.detach() + smooth - smooth.detach()
            potential = torch.where(potential > 1, potential - 1, potential)
            total = total + self.fc2(spikes)
        return total


net = Compare()
show(train(net, 6))
with torch.no_grad():
    accuracy = (net(inputs).argmax(1) == labels).float().mean().item()
    print(accuracy, (net.fc1(inputs) >= 1).sum().item())


# %% parameters-in-hooks: hooks read all parameters and gradients of the network, and print norms
net = Net()


def read(module, given, result):
    norms = [parameter.norm().item().hex() for parameter in net.parameters()]
    print(
        type(module).__name__,
        norms,
        len(list(net.named_modules())),
        [value.shape for value in given],
    )


def read_back(module, gradients_in, gradients_out):
    given = [parameter.grad is None for parameter in net.parameters()]
    print(type(module).__name__, given, gradients_out[0].norm().item().hex())


net.hidden.register_forward_hook(read)
net.neurons.register_forward_hook(read)
net.out.register_full_backward_hook(read_back)
net.neurons.register_full_backward_hook(read_back)
show(train(net, 3))


# %% temporary-files: temporary directories and files, all removed at the end
import os
import tempfile

os.mkdir("scratch")
net = Net()
show(train(net, 1))
tempfile.tempdir = os.path.abspath("scratch")
with tempfile.TemporaryDirectory(prefix="run") as folder:
    for step in range(4):
        show(train(net, 1))
        torch.save(net, os.path.join(folder, f"{step}.pt"))
    print(sorted(os.listdir(folder)), len(os.listdir("scratch")))
with tempfile.NamedTemporaryFile() as file:
    torch.save(net.state_dict(), file)
    file.seek(0)
    net.load_state_dict(torch.load(file))
show(train(net, 1))
print(os.listdir("scratch"), os.path.basename(tempfile.gettempdir()))
os.rmdir("scratch")


# %% open-files: the descriptors of the files that it has opened, and locks on them
import fcntl
import os


def list_open():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(os.getcwd() + os.sep):
            found.append(os.path.basename(target))
    return sorted(found)


log = open("log.txt", "w")
fcntl.flock(log, fcntl.LOCK_EX)
data = open("data.bin", "wb+")
data.write(inputs.numpy().tobytes())
net = Net()
for step in range(3):
    show(train(net, 1))
    print(step, file=log, flush=True)
    print(list_open(), log.tell(), data.tell())
log.close()
print(list_open())
data.close()
print(list_open())


# %% own-clock: time.time and perf_counter are a clock of its own that ticks when it is read
import itertools
import time

ticks = itertools.count()
time.time = lambda: 1000.0 + next(ticks)
time.perf_counter = lambda: 2000.0 + next(ticks)
time.monotonic = lambda: 3000.0 + next(ticks)
slept = []
time.sleep = slept.append
net = Net()
for step in range(4):
    start = time.perf_counter()
    (loss,) = train(net, 1)
    time.sleep(0.1)
    print(loss.hex(), start, time.perf_counter() - start, time.time())
print(next(ticks), slept)


# %% numpy-raises: numpy raises at overflow and division while torch meets NaN
import numpy as np

np.seterr(all="raise")
np.random.seed(4)
net = Net()
with torch.no_grad():
    net.out.bias[0] = float("nan")
    net.hidden.weight[0, 0] = float("inf")
losses = train(net, 3)
print([np.isnan(loss) for loss in losses], np.geterr(), np.random.rand())
net = Net()
show(train(net, 3))
try:
    np.float32(1e38) * np.float32(1e38)
except FloatingPointError as error:
    print(type(error).__name__)


# %% replaced-methods: replaces Tensor.backward, Module.__call__ and a loss by counters
import collections

calls = collections.Counter()


def count(owner, name):
    original = getattr(owner, name)

    def counted(*given, **named):
        calls[name] += 1
        return original(*given, **named)

    setattr(owner, name, counted)
    return original


originals = [
    (torch.Tensor, "backward"),
    (nn.Module, "__call__"),
    (F, "cross_entropy"),
    (torch.optim.SGD, "step"),
]
originals = [(owner, name, count(owner, name)) for owner, name in originals]
net = Net()
show(train(net, 4, torch.optim.SGD(net.parameters(), lr=0.2)))
print(sorted(calls.items()))
for owner, name, original in originals:
    setattr(owner, name, original)
show(train(net, 2, torch.optim.SGD(net.parameters(), lr=0.2)))
print(sorted(calls.items()), F.cross_entropy.__name__, nn.Module.__call__.__name__)


# %% mocked-functions: replaces functions of torch by mocks that count and pass calls on
from unittest import mock

net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
adam = torch.optim.Adam
with mock.patch.object(adam, "step", autospec=True, side_effect=adam.step) as step:
    show(train(net, 3, optimizer))
print(step.call_count, type(step.call_args.args[0]).__name__)
with mock.patch("torch.nn.functional.cross_entropy", wraps=F.cross_entropy) as loss:
    show(train(net, 2, optimizer))
print(loss.call_count, loss.call_args.args[0].shape, isinstance(F.cross_entropy, mock.Mock))
with mock.patch.object(net, "forward", wraps=net.forward) as forward:
    show(train(net, 2, optimizer))
print(forward.call_count, "forward" in vars(net))
with mock.patch.object(torch, "manual_seed", side_effect=RuntimeError("no seeds")):
    show(train(net, 1, optimizer))


# %% limited-files: few open files are allowed, and no large ones
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
net = Net()
files = []
show(train(net, 3))
try:
    for number in range(100):
        files.append(open(f"{number}.txt", "w"))
except OSError as error:
    print(type(error).__name__, error.errno)
kept = len(files)
show(train(net, 2))
for file in files:
    file.close()
print(kept > 5)
import os

for number in range(kept):
    os.remove(f"{number}.txt")


# %% star-imports: everything of torch by a star, and names that the stars hide
from math import *
from random import *
from torch import *
from torch.nn import *
from torch.nn.functional import *
from torch.optim import *

manual_seed(3)
layers = Sequential(Linear(12, 8), ReLU(), Linear(8, 3))
optimizer = SGD(layers.parameters(), lr=0.3)
for step in arange(5).tolist():
    loss = cross_entropy(layers(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), floor(pi * ones(2)).tolist(), sum(ones(2)).item())


# %% generators-of-steps: the training is a generator that is suspended, sent to and closed
def training(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    try:
        while True:
            loss = F.cross_entropy(net(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            rate = yield loss.item()
            if rate is not None:
                optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    finally:
        print("closed at", optimizer.param_groups[0]["lr"])


first, second = training(Net()), training(Net(8))
for step in range(4):
    print(next(first).hex(), next(second).hex())
print(first.send(0.5).hex())
first.close()
for loss in second:
    print(loss.hex())
    break
del second
print("end")
