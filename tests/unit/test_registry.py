"""Names and what they find."""

import pytest

from lsgcli import registry
from lsgcli.errors import ConfigError


def test_nearest_name_is_suggested():
    with pytest.raises(ConfigError, match="did you mean rectangular"):
        registry.get("surrogate", "rectangle")
    with pytest.raises(ConfigError, match="expected one of mlp, resnet19, vggsnn"):
        registry.get("arch", "transformer")


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown kind"):
        registry.register("flavour", "vanilla")


def test_a_name_belongs_to_one_module():
    registry.get("surrogate", "atan")

    def other(x, width):
        return x

    with pytest.raises(ValueError, match="registered twice"):
        registry.register("surrogate", "atan")(other)


def test_a_script_can_register(monkeypatch):
    monkeypatch.setattr(registry, "_things", dict(registry._things))

    @registry.register("surrogate", "mine")
    def mine(x, width):
        return x * 0

    assert "mine" in registry.names("surrogate")
    assert registry.get("surrogate", "mine") is mine


def test_entry_points_add_names(monkeypatch):
    class Point:
        name, module = "theirs", "their.module"

        def load(self):
            return len

    registry._plugins.cache_clear()
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "lsg.loss" else [])
    monkeypatch.setattr(registry, "_things", dict(registry._things))
    try:
        assert "theirs" in registry.names("loss")
        assert registry.get("loss", "theirs") is len
    finally:
        registry._plugins.cache_clear()


@pytest.mark.parametrize("kind", sorted(registry.PACKAGES))
def test_every_file_of_a_kind_registers_its_name(kind):
    assert registry.names(kind)
    for name in registry.names(kind):
        assert registry.get(kind, name) is not None
