"""NIR files run by other simulators, each as its own documentation says, as Runners to compare with."""

import contextlib
import io
import json
import warnings
from pathlib import Path

import nir
import torch

from lsgcli.export.base import read_metadata
from lsgcli.export.runners import Output, Runner


class Reader(Runner):
    """A graph in another simulator, which runs it step by step.

    A subclass sets ``net`` to what the simulator makes of the graph.
    """

    net: torch.nn.Module

    def __init__(self, path: Path):
        graph = nir.read(path)
        super().__init__(read_metadata(graph.metadata, path))
        self.layers = json.loads(graph.metadata["layers"])  # name -> shape, as torch has it
        self.shape = graph.nodes["input"].output_type["output"].tolist()
        self.read(graph, float(graph.metadata["dt"]))

    def read(self, graph, dt):
        raise NotImplementedError

    def reset(self):
        """Bring the net to rest, where it keeps its state itself."""

    @torch.no_grad()
    def run(self, x):
        if x.dim() == 4:
            x = x.expand(self.T, *x.shape)
        x = x.reshape(*x.shape[:2], *self.shape)
        seen = {name: [] for name in self.layers}
        hooks = [
            self.net.get_submodule(name.replace(".", "_")).register_forward_hook(
                # All but snntorch return (spikes, state).
                lambda module, inputs, output, name=name: seen[name].append(output if torch.is_tensor(output) else output[0])
            )
            for name in self.layers
        ]
        self.reset()
        logits, state = [], None
        for frame in x:
            y, state = self.net(frame, state)
            logits.append(y.flatten(1))
        for hook in hooks:
            hook.remove()
        spikes = {name: torch.stack(steps).reshape(*x.shape[:2], *self.layers[name]) for name, steps in seen.items()}
        return Output(torch.stack(logits), spikes)


class SnnTorch(Reader):
    def read(self, graph, dt):
        from snntorch.import_nir import import_from_nir

        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            self.net = import_from_nir(graph)

    def reset(self):
        for name in self.layers:
            self.net.get_submodule(name.replace(".", "_")).reset_mem()


class Norse(Reader):
    def read(self, graph, dt):
        import norse.torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of nirtorch, which it uses
            self.net = norse.torch.from_nir(graph, dt=dt)


class SpikingJelly(Reader):
    def read(self, graph, dt):
        from spikingjelly.activation_based import nir_exchange

        self.net = nir_exchange.import_from_nir(graph, dt=dt)


READERS = {"snntorch": SnnTorch, "norse": Norse, "spikingjelly": SpikingJelly}
