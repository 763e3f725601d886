import numpy as np
import pytest

from lsgcli.config.run import FIELDS
from lsgcli.data.events import Events, turned, turned_sensor

# What numpy does to a picture (H, W), for each name.
PICTURES = {
    "upright": lambda a: a,
    "mirrored": np.fliplr,
    "upside-down": np.flipud,
    "rotated-180": lambda a: np.rot90(a, 2),
    "rotated-90": lambda a: np.rot90(a, -1),  # numpy turns counterclockwise
    "rotated-270": np.rot90,
    "transposed": np.transpose,
    "anti-transposed": lambda a: np.rot90(a, 2).T,
}


@pytest.mark.parametrize("name", FIELDS["orientation"].metadata["choices"])
def test_as_numpy_turns_a_picture(name):
    width, height = 5, 3
    y, x = np.divmod(np.arange(width * height), width)
    events = Events(x.astype(np.uint16), y.astype(np.uint16), np.arange(width * height), x > 2, (width, height))
    found = turned(events, (width, height), name)
    picture = PICTURES[name](np.arange(width * height).reshape(height, width))
    assert turned_sensor((width, height), name) == picture.shape[::-1] == found.sensor
    assert [picture[y, x] for x, y in zip(found.x, found.y, strict=True)] == found.t.tolist()
    assert found.x.dtype == found.y.dtype == np.uint16
    np.testing.assert_array_equal(found.on, events.on)
