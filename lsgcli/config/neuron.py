"""Settings of the neurons."""

from dataclasses import dataclass
from typing import Any

from lsgcli import registry
from lsgcli.config.fields import Applies, Settings, having, setting, when
from lsgcli.registry import traits

DECAY = Applies("a neuron with a decay (not psn, masked-psn or sliding-psn)", lambda config: config.traits.has_decay)
LEARNED_DECAY = Applies(
    "a --method that learns the decay, and a neuron that has one",
    lambda config: traits("method", config.method).learns_decay and config.traits.has_decay,
)
LIF_ONLY = when("neuron", "lif")
ASGL = when("method", "asgl")
TAKE_WIDTH = ("fixed", "trainable-decay", "asgl", "deeptage", "ds-atgo", "ds-atgo-paper")  # methods of this package


@dataclass(frozen=True)
class NeuronConfig(Settings):
    """Settings of the neurons of all layers; see :class:`lsgcli.neurons.LIF`."""

    neuron: str = setting("lif", "Model of the neurons.", kind="neuron")
    carry_m: bool = setting(
        True,
        "Carry the state m of ar-lif, which sets the depth of its reset, to the next timestep; the published code for recordings does not.",
        applies=when("neuron", "ar-lif"),
    )
    method: str = setting(
        "lsg", "How membrane decay and surrogate width are determined.", kind="method", preset=True, earlier={"none": "fixed"}
    )
    decay: float = setting(
        0.2,
        "Decay beta of the membrane potential per timestep; the initial value if beta is learned.",
        above=0.0,
        below=1.0,
        applies=DECAY,
    )
    threshold: float = setting(0.5, "Firing threshold v_th; the initial value if v_th is learned.", at_least=1e-6, at_most=1e6)
    threshold_learned: bool = setting(
        False,
        "Learn one threshold per layer, with the optimiser of the decays.",
        applies=Applies(
            "a neuron and a method without thresholds of their own (not glif, psn, masked-psn, sliding-psn, trsg, ds-atgo or ds-atgo-paper)",
            lambda config: not config.traits.sets_threshold,
        ),
    )
    reset: str = setting(
        "hard",
        "Reset of the membrane potential after a spike: to 0 (hard), by subtraction of v_th (soft), or none.",
        choices="hard soft none",
        applies=LIF_ONLY,
    )
    detach_reset: bool = setting(
        False,
        "Omit the gradient through the spikes in the reset.",
        applies=LIF_ONLY & Applies("--reset hard or soft", lambda config: config.reset != "none"),
    )
    input_gain: str = setting(
        "1",
        "Factor on the input current: 1, or 1-beta as in spikingjelly's decay_input.",
        choices="1 1-beta",
        applies=DECAY,
    )
    init_potential: str = setting(
        "zero",
        "Membrane potential before the first timestep: zero, or measured, the running average of what remains after the last "
        "timestep in neurons that fired (MP-Init).",
        choices="zero measured",
        applies=LIF_ONLY,
    )
    width: float = setting(
        1.0,
        "Width alpha of the surrogate gradient, in units of u; the initial value if alpha is learned.",
        at_least=1e-6,
        at_most=1e6,
        applies=Applies(
            f"a --method with a given width: {', '.join(TAKE_WIDTH)}",
            lambda config: traits("method", config.method).width.setting == "width",
        ),
    )
    width_as: str = setting(
        "log",
        "The parameter of the learned width alpha: ln alpha (log), or 4 / alpha, which is k in sigmoid(k x) (slope).",
        choices="log slope",
        applies=ASGL,
    )
    smooth: float = setting(
        0.1,
        "Probability with which a neuron passes on the integral of the surrogate instead of a spike, in training.",
        at_least=0.0,
        at_most=1.0,
        applies=ASGL,
    )
    order: int = setting(
        2,
        "Order k: number of timesteps, up to the present one, on which a potential depends.",
        at_least=1,
        at_most=1024,
        applies=having("neuron", "takes_order", "--neuron masked-psn or sliding-psn"),
    )
    input_correlation: str = setting(
        "identity",
        "Correlation of the currents of different timesteps that linear-sigma assumes: none (identity), or the running average of the "
        "measured covariance.",
        choices="identity measured",
        applies=Applies("--method linear-sigma", lambda config: traits("method", config.method).width.correlated),
    )
    decay_per: str = setting(
        "layer", "One learned decay per layer, or per channel.", choices="layer channel", applies=LEARNED_DECAY
    )
    surrogate: str = setting("rectangular", "Shape of the surrogate gradient.", kind="surrogate", preset=True)
    backend: str = setting(
        "auto",
        "Implementation of the neuron dynamics.",
        kind="backend",
        earlier={"triton": "compiled"},
        applies=LIF_ONLY
        & Applies("a --method other than asgl, deeptage, ds-atgo and ds-atgo-paper", lambda config: config.traits.fused),
    )

    @property
    def model(self) -> Any:
        """Class of the neurons, a subclass of :class:`lsgcli.neurons.models.Neuron`, given by the method or by ``neuron``."""
        return registry.get("method", self.method).neuron or registry.get("neuron", self.neuron)

    @property
    def traits(self) -> Any:
        """:attr:`model`, or its constants while it is not imported."""
        return traits("method", self.method).neuron or traits("neuron", self.neuron)
