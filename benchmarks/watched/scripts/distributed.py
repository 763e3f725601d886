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


# %% ddp-spawned: trains in two processes with DistributedDataParallel over gloo and a file store
import os

import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel


def work(rank, size):
    torch.set_num_threads(1)
    store = dist.FileStore("store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    net = DistributedDataParallel(Net())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(net(inputs[rank::size]), labels[rank::size])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.save((losses, net.module.state_dict()), f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, args=(2,), nprocs=2)
    os.remove("store")
    ends = [torch.load(f"rank-{rank}.pt") for rank in range(2)]
    show(ends[0][0])
    show(ends[1][0])
    print(all(torch.equal(ends[0][1][name], ends[1][1][name]) for name in ends[0][1]))


# %% ddp-alone: DistributedDataParallel in a group of one process, with no_sync and accumulation
import os

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = DistributedDataParallel(Net(), gradient_as_bucket_view=True)
print(type(net).__name__, sorted(net.state_dict()), dist.get_world_size(), dist.get_backend())
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for step in range(4):
    optimizer.zero_grad()
    with net.no_sync():
        F.cross_entropy(net(inputs[:24]), labels[:24]).backward()
    loss = F.cross_entropy(net(inputs[24:]), labels[24:])
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), net.module.out.weight.grad.norm().item().hex())
dist.destroy_process_group()
show(train(net.module, 2))


# %% ddp-hooks: own hooks of communication in DistributedDataParallel, with parameters not always used
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

calls = []


def average(state, bucket):
    calls.append((bucket.index(), len(bucket.parameters()), bucket.is_last()))
    reduced = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return reduced.then(lambda future: future.value()[0] / dist.get_world_size())


class Branches(Net):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(12, 3)

    def forward(self, x, short):
        return self.other(x) if short else super().forward(x)


dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = DistributedDataParallel(Branches(), find_unused_parameters=True)
net.register_comm_hook(None, average)
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(5):
    loss = F.cross_entropy(net(inputs, step % 2 == 1), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), len(calls))
print(calls[-1])
dist.destroy_process_group()


# %% data-parallel: DataParallel where there is no GPU, and its state in a checkpoint
net = nn.DataParallel(Net())
print(net.device_ids, sorted(net.state_dict()), type(net.module).__name__)
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
show(train(net, 4, optimizer))
torch.save(net.state_dict(), "parallel.pt")
stored = torch.load("parallel.pt")
single = Net()
single.load_state_dict({name.removeprefix("module."): value for name, value in stored.items()})
show(train(single, 2))
show(train(net, 2, optimizer))


# %% averaged-by-hand: two processes average gradients by all_reduce, and gather, scatter and broadcast
import os

import torch.distributed as dist
import torch.multiprocessing as mp


def work(rank, size):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{os.getcwd()}/store", rank=rank, world_size=size)
    net = Net()
    for parameter in net.parameters():
        dist.broadcast(parameter.detach(), src=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    losses = []
    for step in range(4):
        loss = F.cross_entropy(net(inputs[rank::size]), labels[rank::size])
        optimizer.zero_grad()
        loss.backward()
        for parameter in net.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= size
        optimizer.step()
        gathered = [torch.zeros(()) for _ in range(size)]
        dist.all_gather(gathered, loss.detach())
        losses += [value.item() for value in gathered]
        dist.barrier()
    received = torch.zeros(3)
    dist.scatter(received, [torch.full((3,), 5.0 + place) for place in range(size)] if rank == 0 else None)
    objects = [None] * size
    dist.all_gather_object(objects, {"rank": rank, "received": received.tolist()})
    if rank == 1:
        torch.save((losses, objects), "gathered.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, args=(2,), nprocs=2, join=True)
    losses, objects = torch.load("gathered.pt")
    show(losses)
    print(objects, os.path.exists("store"))
    if os.path.exists("store"):
        os.remove("store")


# %% fully-sharded: a spiking network in shards by fully_shard, whose parameters are DTensors
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("data",))
net = Net()
fully_shard(net.hidden, mesh=mesh)
fully_shard(net, mesh=mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32))
print(type(net).__mro__[0].__name__, type(net.out.weight).__name__, net.out.weight.placements)
optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
show(train(net, 4, optimizer))
norm = nn.utils.clip_grad_norm_(net.parameters(), 0.01)
print(type(norm).__name__, norm.full_tensor().item().hex())
full = {name: value.full_tensor() for name, value in net.state_dict().items()}
dist.destroy_process_group()
other = Net()
other.load_state_dict(full)
show(train(other, 2))


# %% distributed-tensors: weights as DTensors, and a network whose layers are parallelised by columns and rows
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
layers = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
parallelize_module(layers, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
optimizer = torch.optim.SGD(layers.parameters(), lr=0.2)
for step in range(4):
    loss = F.cross_entropy(layers(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), type(layers[0].weight.grad).__name__, layers[2].weight.placements)
matrix = distribute_tensor(torch.arange(12.0).view(4, 3), mesh, [Shard(0)])
product = (matrix @ matrix.T).redistribute(mesh, [Replicate()])
print(isinstance(product, DTensor), product.to_local().sum().item(), matrix.shape)
dist.destroy_process_group()


# %% uneven-inputs: two processes with different numbers of batches, joined by the context of torch
import os

import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel


def work(rank, size, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore("store", size), rank=rank, world_size=size)
    net = DistributedDataParallel(Net())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    losses = []
    with Join([net]):
        for step in range(3 + 2 * rank):
            loss = F.cross_entropy(net(inputs[step::5]), labels[step::5])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    results.put((rank, losses, [value.sum().item() for value in net.parameters()]))
    dist.destroy_process_group()


if __name__ == "__main__":
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(work, args=(2, results), nprocs=2)
    for rank, losses, sums in sorted([results.get(), results.get()]):
        print(rank, [loss.hex() for loss in losses], [value.hex() for value in sums])
    os.remove("store")


# %% remote-calls: one worker calls functions of itself by RPC, with remote references
import torch.distributed as dist
import torch.distributed.rpc as rpc


def evaluate(weights, x):
    net = Net()
    net.load_state_dict(weights)
    with torch.no_grad():
        return net(x).argmax(1)


options = rpc.TensorPipeRpcBackendOptions(init_method="file://" + __file__ + ".store")
rpc.init_rpc("worker", rank=0, world_size=1, rpc_backend_options=options)
net = Net()
for step in range(3):
    show(train(net, 2))
    right = rpc.rpc_sync("worker", evaluate, args=(net.state_dict(), inputs)) == labels
    future = rpc.rpc_async("worker", torch.add, args=(torch.ones(2), step))
    print(right.sum().item(), future.wait().tolist())
reference = rpc.remote("worker", torch.arange, args=(3,))
print(reference.to_here().tolist(), rpc.get_worker_info().name)
rpc.shutdown()
import os

if os.path.exists(__file__ + ".store"):
    os.remove(__file__ + ".store")


# %% sharded-optimiser: an optimiser whose states are in shards, and a checkpoint of torch.distributed
import shutil

import torch.distributed as dist
import torch.distributed.checkpoint as checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.optim import ZeroRedundancyOptimizer

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = Net()
optimizer = ZeroRedundancyOptimizer(net.parameters(), torch.optim.Adam, lr=0.02)
show(train(net, 3, optimizer))
optimizer.consolidate_state_dict()
print(len(optimizer.state_dict()["state"]), type(optimizer.optim).__name__)
plain = torch.optim.Adam(net.parameters(), lr=0.02)
show(train(net, 2, plain))
weights, states = get_state_dict(net, plain)
checkpoint.save({"net": weights, "optimizer": states}, checkpoint_id="sharded")
after = train(net, 2, plain)
weights, states = get_state_dict(net, plain)
stored = {"net": weights, "optimizer": states}
checkpoint.load(stored, checkpoint_id="sharded")
set_state_dict(net, plain, model_state_dict=stored["net"], optim_state_dict=stored["optimizer"])
print(train(net, 2, plain) == after)
shutil.rmtree("sharded")
dist.destroy_process_group()


# %% forked-seeds: a process for each seed, by fork, and their losses through a queue
import torch.multiprocessing as mp


def work(seed, results):
    torch.manual_seed(seed)
    results.put((seed, train(Net(), 4)))


context = mp.get_context("fork")
results = context.Queue()
first = train(Net(), 2)
processes = [context.Process(target=work, args=(seed, results)) for seed in range(3)]
for process in processes:
    process.start()
found = dict(results.get() for _ in processes)
for process in processes:
    process.join()
show(first)
for seed in sorted(found):
    show(found[seed])
print([process.exitcode for process in processes], mp.get_start_method())


# %% spawned-pool: a pool of spawned processes trains with several learning rates
import torch.multiprocessing as mp


def work(rate):
    torch.set_num_threads(1)
    torch.manual_seed(3)
    net = Net()
    losses = train(net, 4, torch.optim.SGD(net.parameters(), lr=rate))
    return rate, losses[-1], net.out.weight.detach()


if __name__ == "__main__":
    with mp.get_context("spawn").Pool(2) as pool:
        found = pool.map(work, [0.01, 0.1, 0.5])
    for rate, loss, weights in found:
        print(rate, loss.hex(), weights.sum().item().hex())
    rate = min(found, key=lambda result: result[1])[0]
    net = Net()
    show(train(net, 3, torch.optim.SGD(net.parameters(), lr=rate)))


# %% hogwild: processes train the same weights in shared memory, one after another by a lock's turn
import torch.multiprocessing as mp


def work(number, net, turn, results):
    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    for round in range(2):
        while turn.value != 2 * round + number:
            pass
        losses = train(net, 2, optimizer)
        results[2 * round + number] = losses[-1]
        turn.value += 1


net = Net()
net.share_memory()
print(all(parameter.is_shared() for parameter in net.parameters()))
context = mp.get_context("fork")
turn = context.Value("i", 0)
results = context.Array("d", 4)
before = net.out.weight.sum().item()
processes = [context.Process(target=work, args=(number, net, turn, results)) for number in range(2)]
for process in processes:
    process.start()
for process in processes:
    process.join()
show(list(results))
print(before.hex(), net.out.weight.sum().item().hex(), net.out.weight.grad)
show(train(net, 2))


# %% itself-as-subprocess: starts itself as a subprocess that trains, and reads what that prints
import os
import subprocess
import sys

net = Net()
if len(sys.argv) > 1:
    rate = float(sys.argv[1])
    show(train(net, 3, torch.optim.SGD(net.parameters(), lr=rate)))
    sys.exit(int(rate * 10))
show(train(net, 2))
for rate in ("0.1", "0.5"):
    command = [sys.executable, os.path.abspath(__file__), rate]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.returncode, done.stdout.strip())
show(train(net, 2))


# %% side-by-side: two threads train networks of their own at the same time
import threading

results = {}


def work(name, hidden):
    generator = torch.Generator().manual_seed(hidden)
    net = Net(hidden)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.3, 0.3, generator=generator)
    results[name] = train(net, 6)


threads = [threading.Thread(target=work, args=(f"net-{hidden}", hidden)) for hidden in (8, 16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in sorted(results):
    show(results[name])
print(threading.active_count())


# %% trained-in-a-thread: the whole training is in a thread; the main thread waits, and then evaluates
import queue
import threading

messages = queue.Queue()
net = Net()


def work():
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(5):
        messages.put(train(net, 1, optimizer)[0])
    messages.put(None)


torch.set_grad_enabled(False)
thread = threading.Thread(target=work, daemon=True, name="training")
thread.start()
for loss in iter(messages.get, None):
    print(loss.hex())
thread.join()
print(torch.is_grad_enabled(), (net(inputs).argmax(1) == labels).sum().item())


# %% inference-by-threads: a pool of threads evaluates batches with one network between the epochs
from concurrent.futures import ThreadPoolExecutor

net = Net()


def evaluate(first):
    with torch.inference_mode():
        outputs = net(inputs[first : first + 8])
        return (outputs.argmax(1) == labels[first : first + 8]).sum().item()


with ThreadPoolExecutor(3) as pool:
    for epoch in range(4):
        show(train(net, 1))
        right = list(pool.map(evaluate, range(0, 48, 8)))
        print(right, sum(right))
    future = pool.submit(train, net, 2)
    show(future.result())


# %% in-an-event-loop: coroutines train, evaluate and save in an event loop of asyncio
import asyncio
import pathlib

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)


async def training(queue):
    for step in range(4):
        (loss,) = train(net, 1, optimizer)
        await queue.put((step, loss))
        await asyncio.sleep(0)
    await queue.put(None)


async def saving(queue):
    while (item := await queue.get()) is not None:
        step, loss = item
        print(step, loss.hex())
        await asyncio.to_thread(torch.save, net, f"step-{step}.pt")
        pathlib.Path(f"step-{step}.pt").unlink()


async def main():
    queue = asyncio.Queue(maxsize=1)
    await asyncio.gather(training(queue), saving(queue))
    return len(asyncio.all_tasks()), asyncio.get_running_loop().get_debug()


print(asyncio.run(main()))
show(train(net, 2, optimizer))


# %% searched-by-processes: ProcessPoolExecutor tries sizes of the network, by fork
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed


def attempt(hidden):
    torch.manual_seed(hidden)
    return train(Net(hidden), 4)[-1]


first = train(Net(), 2)
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    futures = {pool.submit(attempt, hidden): hidden for hidden in (4, 8, 16, 32)}
    found = {futures[future]: future.result() for future in as_completed(futures)}
for hidden in sorted(found):
    print(hidden, found[hidden].hex())
show(first)
show(train(Net(min(found, key=found.get)), 2))


# %% start-methods: sets the method to start processes once, and sends tensors, networks and errors
import torch.multiprocessing as mp


def work(connection):
    torch.set_num_threads(1)
    while (message := connection.recv()) is not None:
        net, rows = message
        connection.send((train(net, 1)[0], net.out.bias.grad[:rows], type(net).__name__))
    raise ValueError("no more messages")


def quiet(connection):
    try:
        work(connection)
    except ValueError as error:
        connection.send(str(error))
        raise SystemExit(9)


if __name__ == "__main__":
    mp.set_start_method("spawn")
    here, there = mp.Pipe()
    process = mp.Process(target=quiet, args=(there,), name="trainer")
    process.start()
    net = Net()
    for rows in range(1, 4):
        here.send((net, rows))
        loss, gradient, name = here.recv()
        print(loss.hex(), gradient.tolist(), name)
        show(train(net, 1))
    here.send(None)
    print(here.recv())
    process.join()
    print(process.exitcode, mp.get_start_method(), mp.get_all_start_methods())


# %% error-in-a-worker: a spawned process fails, and its error ends the script (status 1)
import logging

import torch.multiprocessing as mp

logging.disable(logging.WARNING)  # whether the other process is terminated, or has ended before, is chance


def work(rank):
    torch.set_num_threads(1)
    train(Net(), 2)
    if rank == 1:
        raise RuntimeError("rank 1 has no data")


if __name__ == "__main__":
    try:
        mp.spawn(work, nprocs=2)
    except mp.ProcessRaisedException as error:
        print(error.error_index, str(error).strip().splitlines()[-1])
        show(train(Net(), 2))
        raise SystemExit("a worker failed")


# %% stopped-workers: a manager, an event and shared memory, and a worker that is terminated
import multiprocessing
from multiprocessing import shared_memory

import numpy as np


def work(started, losses, name):
    memory = shared_memory.SharedMemory(name)
    weights = torch.from_numpy(np.ndarray((3, 16), dtype=np.float32, buffer=memory.buf))
    net = Net()
    net.out.weight.data.copy_(weights)
    losses.extend(train(net, 3))
    weights.copy_(net.out.weight.detach())
    started.set()
    while True:
        started.wait()


context = multiprocessing.get_context("fork")
memory = shared_memory.SharedMemory(create=True, size=3 * 16 * 4)
array = np.ndarray((3, 16), dtype=np.float32, buffer=memory.buf)
array[:] = 0.1
with context.Manager() as manager:
    losses = manager.list()
    started = context.Event()
    worker = context.Process(target=work, args=(started, losses, memory.name), daemon=True)
    worker.start()
    started.wait()
    worker.terminate()
    worker.join()
    show(list(losses))
print(worker.exitcode, float(array.sum()).hex())
net = Net()
show(train(net, 2))
del array
memory.close()
memory.unlink()
