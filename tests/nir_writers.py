"""Small spiking networks of other libraries: as NIR files that the library writes, and the library's own spikes and outputs."""

import contextlib
import io
import warnings
from typing import NamedTuple

import nir
import torch
from torch import nn

SIZE = 16


class Written(NamedTuple):
    """A network of another library, whose NIR graph is in a file."""

    net: nn.Module
    kinds: tuple[type, ...]  # classes of its neurons
    reset: object  # brings the net to rest

    @torch.no_grad()
    def run(self, x):
        """(outputs (T, B, classes), spikes (T, B, ...) of each layer of neurons) for frames (T, B, ...)."""
        spikes, state, outputs = {}, None, []

        def record(name, module, inputs, output):
            spikes.setdefault(name, []).append((output[0] if isinstance(output, tuple) else output).clone())

        hooks = [
            module.register_forward_hook(lambda *of, name=name: record(name, *of))
            for name, module in self.net.named_modules()
            if isinstance(module, self.kinds)
        ]
        self.reset()
        for frame in x:
            output = self.net(frame, state) if type(self.net).__name__ == "SequentialState" else self.net(frame)
            output, state = output if isinstance(output, tuple) else (output, None)
            outputs.append(output.flatten(1))
        for hook in hooks:
            hook.remove()
        return torch.stack(outputs), [torch.stack(steps) for steps in spikes.values()]


@contextlib.contextmanager
def deprecated():
    """Context that ignores warnings of nirtorch, which the libraries call as they should not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def snntorch(path):
    """Leaky with full-size beta, which its exporter needs, and the reset that NIR has."""
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    def leaky(*shape, beta):
        reset = {"reset_mechanism": "zero", "reset_delay": False}
        return snn.Leaky(beta=torch.full(shape, beta), threshold=torch.full(shape, 0.3), init_hidden=True, **reset)

    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        leaky(4, 16, 16, beta=0.9),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        leaky(6, 8, 8, beta=0.5),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 10),
        leaky(10, beta=0.9),
    )
    with contextlib.redirect_stdout(io.StringIO()), deprecated():  # it prints
        nir.write(path, export_to_nir(net, torch.rand(1, 2, SIZE, SIZE), ignore_dims=[0]))
    return Written(net, (snn.Leaky,), lambda: [layer.reset_mem() for layer in net if isinstance(layer, snn.Leaky)])


def spikingjelly(path):
    """LIF with and without decay_input, and IF; linear outputs without neurons."""
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        neuron.LIFNode(tau=2.0, v_threshold=0.3, decay_input=True),
        layer.AvgPool2d(2),
        layer.Conv2d(4, 6, 3, padding=1),
        neuron.IFNode(v_threshold=0.7),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(6 * 4 * 4, 32),
        neuron.LIFNode(tau=3.0, v_threshold=0.2, decay_input=False),
        layer.Linear(32, 10),
    )
    export_to_nir(net, torch.rand(1, 2, SIZE, SIZE), save_path=path)
    return Written(net, (neuron.BaseNode,), lambda: functional.reset_net(net))


def norse(path):
    """LIFBox, whose exporter knows neither pools nor sizes, and with dt=1 writes tau in seconds."""
    import norse.torch as norse_torch
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.utils.export_nir import to_nir

    def box(*shape, rate):
        values = {"tau_mem_inv": torch.full(shape, rate), "v_th": torch.full(shape, 0.1), "v_leak": torch.zeros(shape)}
        return norse_torch.LIFBoxCell(LIFBoxParameters(**values), dt=1e-3)

    net = norse_torch.SequentialState(
        nn.Conv2d(2, 4, 3, padding=1),
        box(4, 16, 16, rate=100.0),
        nn.Conv2d(4, 6, 3, padding=1, stride=2),
        box(6, 8, 8, rate=300.0),
        nn.Conv2d(6, 10, 8),
        box(10, 1, 1, rate=500.0),
    )
    with deprecated():
        graph = to_nir(net, torch.rand(1, 2, SIZE, SIZE), dt=1)
    for name, size in (("0", 16), ("2", 16), ("4", 8)):
        graph.nodes[name].input_shape = (size, size)
    graph.metadata["dt"] = 1e-3
    nir.write(path, graph)
    return Written(net, (norse_torch.LIFBoxCell,), lambda: None)


WRITERS = {"snntorch": snntorch, "spikingjelly": spikingjelly, "norse": norse}
