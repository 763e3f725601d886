"""Methods: whether the decay is learned, the rule of the surrogate width, and the model of the neurons, as a table."""

from dataclasses import dataclass

from lsgcli import registry
from lsgcli.config.fields import Values, current, fields_of
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons import models, widths
from lsgcli.neurons.models import Neuron
from lsgcli.neurons.widths import WidthRule
from lsgcli.registry import register
from lsgcli.system.schema import Record


@dataclass(eq=False)
class Method:
    """A method, registered by name: ``register("method", NAME)(Method(learns_decay=True, width=Half()))``.

    Args:
        learns_decay: whether the decay is a parameter.
        width: rule of the surrogate width.
        neuron: model of the neurons; None for that of ``--neuron``.

    Raises:
        ConfigError: ``width`` is not a :class:`WidthRule`, or defines no formula.
    """

    learns_decay: bool
    width: WidthRule
    neuron: type[Neuron] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.width, WidthRule) or not hasattr(self.width, "formula"):
            raise ConfigError(f"method: found the width {self.width!r}, expected a WidthRule that defines formula and alpha")
        shown = self.neuron or type(self.width)
        # In tables of methods.
        self.__doc__ = f"The decay is {'learned' if self.learns_decay else 'fixed'}; {shown.__doc__ or ''}"
        self.__module__ = shown.__module__

    @property
    def takes_width(self) -> bool:
        """Whether alpha depends on the setting ``width``."""
        return self.width.setting == "width"

    @property
    def needs_decay(self) -> bool:
        """Whether the method applies only to neurons with a decay."""
        return self.width.of_decay or (self.learns_decay and self.takes_width)

    @property
    def stores_width(self) -> bool:
        """Whether each layer stores a fixed width with its weights, from ``--width-from``."""
        return self.width.setting == "width_from"


register("method", "fixed")(Method(False, widths.Given()))
# Learned time constants: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021; as a row of Lian et al., Table 1.
register("method", "trainable-decay")(Method(True, widths.Given()))
register("method", "lsg")(Method(True, widths.Predicted()))
register("method", "linear-sigma")(Method(True, widths.LinearSigma()))
register("method", "matched-width")(Method(True, widths.Stored()))
register("method", "measured-sigma")(Method(True, widths.MeasuredSigma()))
register("method", "adaptive")(Method(True, widths.Adaptive()))
register("method", "isometric")(Method(True, widths.Isometric()))
register("method", "mpd-agl")(Method(True, widths.PredictedWithGamma()))
register("method", "ds-atgo")(Method(True, widths.Given("k0 (1+tanh(std(u)-V0))"), models.DynamicThresholdLIF))
register("method", "ds-atgo-paper")(Method(True, widths.Given("k0 (1+tanh(theta-V0))"), models.DynamicThresholdLIFOfPaper))
register("method", "deeptage")(Method(False, widths.Given("k0 (1+(s[t]/s[1]-1)/4)"), models.TemporallyAlignedLIF))
register("method", "asgl")(Method(True, widths.Learned(), models.SmoothedLIF))
register("method", "trsg")(Method(True, widths.AtThreshold(), models.RelativeLIF))


def by_name(settings: Values) -> Record:
    """Settings of neurons that are given by name, with those of the neuron's preset.

    Raises:
        ConfigError: the method stores a width, but none is given; or a width is given without a method, and the default method computes it.
    """
    neuron: type[Neuron] = registry.get("neuron", settings.get("neuron", NeuronConfig.neuron))
    settings = {**neuron.preset, **settings}
    name = current(fields_of(NeuronConfig)["method"], settings.get("method", NeuronConfig.method))
    width = settings.get("width")
    method: Method = registry.get("method", name)
    lacks = method.stores_width and width is None
    computes = "method" not in settings and not method.takes_width and width is not None
    if lacks or computes:
        raise ConfigError(
            f"width: found {width!r} with the method {name}, expected a number if the method keeps it, none if it computes the width",
            hint="Give method='fixed' for a width and decay that stay, or 'trainable-decay'.",
        )
    return settings
