"""Contenders of single benchmarks, beside those of ``benchmarks.bench.cases``."""

from benchmarks.bench.cases import CONTENDERS, Contender
from lsgcli import registry

# Not among those that run unless asked for:
CONTENDERS |= {
    "lsg-reference": Contender("lsg", best=True, keep=True, backend="reference"),
    "lsg-unkept": Contender("lsg", best=True),
    "spikingjelly-kept": Contender("SpikingJelly", keep=True),
    "spikingjelly-last": Contender("SpikingJelly", best=True),
    "floor-unkept": Contender("Floor", best=True),
    "lsg-compiled": Contender("lsg", best=True, keep=True, backend="autograd", compiled=True),
    "spikingjelly-compiled": Contender("SpikingJelly", best=True, keep=True, compiled=True),
    "snntorch-compiled": Contender("SnnTorch", best=True, keep=True, compiled=True),
    "spikingjelly-triton": Contender("SpikingJelly", best=True, keep=True, backend="triton"),
    "spikingjelly-cuda": Contender("SpikingJelly", best=True, keep=True, backend="cuda"),
}
# lsg with one setting changed, such as "neuron=clif"; "lif" has all of PLAIN.
PLAIN = {"neuron": "lif", "reset": "hard", "norm": "tdbn", "method": "fixed"}
CHOICES = {"neuron": registry.names("neuron"), "reset": ("soft", "none"), "norm": registry.names("norm")}
CHOICES |= {"method": registry.names("method")}
VARIANTS = {"lif": PLAIN} | {
    f"{key}={name}": {**PLAIN, key: name} for key, names in CHOICES.items() for name in names if name != PLAIN[key]
}
CONTENDERS |= {name: Contender("lsg", best=True, keep=True, settings=settings) for name, settings in VARIANTS.items()}
USUAL = ("lsg", "spikingjelly", "spikingjelly-best", "snntorch", "snntorch-best", "floor")
