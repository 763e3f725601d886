"""Width rules and the energy estimate as a user sees them."""

import json

import pytest

from lsgcli.store import checkpoint
from tests.cli.conftest import CONVOLUTIONS, TINY


def test_matched_width(train, trained, tmp_path):
    train(
        *CONVOLUTIONS,
        "--method",
        "matched-width",
        "--width-from",
        trained / "best.safetensors",
        "--out",
        "matched",
        "-q",
        status=0,
    )
    found, given = (
        [layer.lif.alpha.item() for layer in checkpoint.load(path)[0].spiking_layers()]
        for path in (tmp_path / "matched" / "last.safetensors", trained / "best.safetensors")
    )
    assert found == given


def test_eval_synops(lsg, trained, images):
    """Under "synops" in JSON, and as a table; an image is real-valued, and convolved once."""
    command = ["eval", trained / "best.safetensors", "--data-dir", images, "--synops", "-q"]
    record = json.loads(lsg(*command, "--json").stdout)
    layers = record["synops"]["layers"]
    assert [layer["name"] for layer in layers] == [*record["firing_rate"], "classifier"]
    expected = ["real", *["spikes", "averages"] * 4]
    fired = [layer["density"] > 0 for layer in layers]  # of zeros alone nobody can tell
    assert fired[:4] == [True] * 4
    assert [layer["input"] if fires else kind for layer, kind, fires in zip(layers, expected, fired, strict=True)] == expected
    assert [layer["passes"] for layer in layers] == [1, *[int(TINY[3])] * 8]
    assert layers[0]["mac"] == layers[0]["ann_mac"] == 3 * 2 * 46 * 46  # 3 to 2 channels of 16 x 16 pixels
    assert record["synops"]["total"]["mac"] == layers[0]["mac"]
    assert {layer["name"]: layer["firing_rate"] for layer in layers[:-1]} == pytest.approx(record["firing_rate"])
    text = lsg(*command).stdout
    for word in ("averages", "ANN: MAC", "an estimate of arithmetic alone", "total", "break-even rate", "--rate-target"):
        assert word in text
    assert "synops" not in json.loads(lsg(*command[:-2], "--json", "-q").stdout)
