"""Conditions under which settings have an effect, with their description in errors, ``--help`` and the documentation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lsgcli import registry

if TYPE_CHECKING:
    from lsgcli.config import RunConfig


@dataclass(frozen=True)
class Applies:
    """A condition on complete settings.

    Attributes:
        words: description, as a continuation of "has an effect only with".
        to: the predicate.
    """

    words: str
    to: "Callable[[RunConfig], bool]"

    def __and__(self, other: "Applies") -> "Applies":
        return Applies(f"{self.words} and {other.words}", lambda config: self.to(config) and other.to(config))


def _is(setting: str, value: Any, flag: str) -> Applies:
    return Applies(f"{flag} {value}", lambda config: getattr(config, setting) == value)


def _has(kind: str, attribute: str, words: str, wanted: bool = True) -> Applies:
    """The registered entry that the setting ``kind`` names has this attribute value."""
    return Applies(words, lambda config: getattr(registry.get(kind, getattr(config, kind)), attribute, False) is wanted)


FROM_FILES = _has("dataset", "embedded", "a --dataset read from files", wanted=False)
RECORDINGS = _has("dataset", "static", "a --dataset of recordings", wanted=False)
WINDOW = RECORDINGS & _is("slicing", "window", "--slicing")
OWN_SENSOR = _has("dataset", "takes_sensor", "a --dataset of unknown sensor size: event-folder")
SPLIT_SEED = Applies("--split stratified or a --val-fraction above 0", lambda c: c.split == "stratified" or c.val_fraction > 0)
RESIDUAL = _has("arch", "has_residual", "an --arch with residual blocks: resnet19")
FIXED_WIDTH = _has("method", "takes_width", "a --method with fixed width: none, trainable-decay")
STORED_WIDTH = _has("method", "stores_width", "--method matched-width")
OWN_START = Applies("random initialisation: no --init-from", lambda config: config.init_from is None)
LEARNED_DECAY = _has("method", "learns_decay", "a --method that learns the decay")
SGD = _is("optimizer", "sgd", "--optimizer")
TET = _is("loss", "tet", "--loss")
