"""Names and what they find."""

import pytest

from lsgcli import registry
from lsgcli.errors import ConfigError


def test_nearest_name_is_suggested():
    with pytest.raises(ConfigError, match="did you mean rectangular"):
        registry.get("surrogate", "rectangle")
    with pytest.raises(ConfigError, match="expected one of max-resnet18, mlp"):
        registry.get("arch", "perceptron")
    with pytest.raises(ConfigError) as caught:
        registry.get("arch", "x" * 100_000)
    assert len(str(caught.value)) < 600
    with pytest.raises(ValueError, match="unknown kind"):
        registry.register("flavour", "vanilla")


def test_a_name_belongs_to_one_module():
    registry.get("surrogate", "atan")

    def other(x, width):
        return x

    with pytest.raises(ValueError, match="registered twice"):
        registry.register("surrogate", "atan")(other)


@pytest.mark.parametrize("kind", sorted(registry.PLACES))
def test_names_of_the_source_text_are_what_is_registered(kind):
    """In both directions: every name that is listed is there, and nothing else of the package is registered."""
    found = {name: registry.get(kind, name) for name in registry.names(kind)}
    assert found
    assert None not in found.values()
    of_package = {name for k, name in registry._entries if k == kind and (k, name) not in registry.installed()}
    assert of_package == set(registry._modules(kind))
