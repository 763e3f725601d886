"""The page: whole, self-contained, safe whatever the names are, and true to its records."""

import base64
import hashlib
import json
import re

import pytest

from lsgcli.analysis.measures import MEASURES
from lsgcli.report.page import flow_page as page
from tests.flows import flow, hollow
from tests.unit.report.reading import HOSTILE, Reader


def hostile():
    """A record whose every name is markup."""
    record = flow(2, method=HOSTILE, checkpoint=HOSTILE)
    record["layers"][0] |= {"name": HOSTILE, "verdict": "silent", "reason": HOSTILE}
    record["history"]["layers"] = {HOSTILE: record["history"]["layers"].pop("conv1"), **record["history"]["layers"]}
    return record


CASES = {
    "one": [flow()],
    "three": [flow(4, method=m, seed=i) for i, m in enumerate(("fixed", "trainable-decay", "lsg"))],
    "four, alike": [flow(2, checkpoint=f"runs/{k}/best.safetensors") for k in range(4)],
    "17 layers": [flow(17, T=10)],
    "one layer, one step": [flow(1, T=1, epochs=1)],
    "values missing": [hollow(flow(3)), flow(3, method="fixed")],
    "other networks": [flow(2, T=4), flow(5, T=2, method="fixed", history=None)],
    "nameless": [{k: v for k, v in flow(2).items() if k not in ("checkpoint", "method", "thresholds", "history", "batches")}],
    "hostile": [hostile()],
}


@pytest.mark.parametrize("name", CASES)
def test_a_page_is_whole_fetches_nothing_and_has_its_records(name):
    text = page(CASES[name])
    reader = Reader(text)
    ids = [attributes["id"] for _, attributes, _ in reader.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for _, attributes, _ in reader.all("a")} <= set(ids)
    assert len(reader.all("h1")) == 1
    assert all(e[1].get("aria-label") or e[1].get("aria-hidden") for e in reader.all("svg"))
    assert {label[1]["for"] for label in reader.all("label")} <= set(ids)
    for tag, attributes, _ in reader.found:
        assert tag not in ("img", "iframe", "object", "embed", "image", "base")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,"))
        assert not [key for key in attributes if key.startswith("on")]
    styles = "".join(reader.text("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    if name == "hostile":
        assert HOSTILE in reader.text("title")[0]
        assert len(reader.all("script")) == 2
    else:
        assert not re.findall(r"https?://", text)
    (data,) = reader.text("script", type="application/json")
    assert json.loads(data) == CASES[name]
    assert "<" not in data


def test_numbers_that_json_does_not_have_are_null():
    record = flow(1, loss=float("nan"))
    record["layers"][0]["snr"] = float("inf")
    (data,) = Reader(page([record])).text("script", type="application/json")
    (back,) = json.loads(data, parse_constant=pytest.fail)
    assert back["loss"] is None
    assert back["layers"][0]["snr"] is None


def test_policy_allows_this_script_and_nothing_else():
    reader = Reader(page([flow()]))
    (policy,) = [e[1]["content"] for e in reader.all("meta") if e[1].get("http-equiv") == "Content-Security-Policy"]
    (script,) = [text for e, text in zip(reader.all("script"), reader.text("script"), strict=True) if "type" not in e[1]]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def rows(reader, number=0):
    """Cells of a table, line by line."""
    tables = [i for i, e in enumerate(reader.found) if e[0] == "table"] + [len(reader.found)]
    lines = []
    for tag, _, text in reader.found[tables[number] : tables[number + 1]]:
        if tag == "tr":
            lines.append([])
        elif tag in ("th", "td"):
            lines[-1].append("".join(text))
    return lines


def test_table():
    record = flow(3)
    record["layers"][1] |= {"verdict": "vanishing", "reason": "grad_ratio 1e-05 < 0.001"}
    head, *body = rows(Reader(page([record])))
    assert [line[:2] for line in body] == [
        ["1 conv1", "✓ ok"],
        ["2 conv2", "! vanishing: grad_ratio 1e-05 < 0.001"],
        ["3 conv3", "✓ ok"],
    ]
    for line, layer in zip(body, record["layers"], strict=True):
        cells = dict(zip(head, line, strict=True))
        assert float(cells["beta"]) == pytest.approx(layer["beta"], abs=5e-4)
        assert float(cells["E[h]"]) == pytest.approx(layer["sg_mean"], abs=5e-4)
        assert float(cells["u std, formula"]) == pytest.approx(layer["u_std_predicted"]["paper"], abs=5e-3)
        assert float(cells["|dL/dW|"]) == pytest.approx(layer["grad_norm"], rel=5e-3)
    assert "mismatch" not in head  # nobody asked for it
    record["layers"][2]["mismatch"] = 0.5
    head, *body = rows(Reader(page([record])))
    assert [dict(zip(head, line, strict=True))["mismatch"] for line in body] == ["-", "-", "0.500"]


def test_every_number_of_a_layer_has_a_column():
    scalars = {key for key, value in flow()["layers"][0].items() if isinstance(value, float | None)}
    assert scalars <= MEASURES.keys()


def test_verdicts_are_said():
    sick = flow(2, method="fixed")
    sick["layers"][0] |= {"verdict": "vanishing", "reason": "grad_ratio 0.01, usually 0.1 to 30"}
    sick["layers"][1] |= {"verdict": "network", "reason": "not-learning"}
    text = " ".join(Reader(page([sick, flow(2)])).text("body"))
    assert "vanishing: conv1 (grad_ratio 0.01" in text
    assert "network (not-learning)" in text
    assert text.count("all layers are ok") == 1


def test_what_cannot_be_compared_is_said():
    def warning(flows):
        return re.findall(r"Not directly comparable: [^.]*", " ".join(Reader(page(flows)).text("header")))

    assert warning([flow(), flow(method="fixed")]) == []
    assert warning([flow(), flow(4, T=2, method="fixed")]) == [
        "Not directly comparable: these checkpoints differ in timesteps, layers"
    ]


def test_every_colour_has_a_value_on_light_and_on_dark_ground():
    styles = "".join(Reader(page([flow()])).text("style"))
    light, dark = (set(re.findall(r"--(\w+):", block)) for block in re.findall(r":root\{(--.*?)\}", styles))
    assert "prefers-color-scheme:dark" in styles
    assert light == dark
    used = set(re.findall(r"var\(--(\w+)\)", page([flow()])))
    assert {"ink", "soft", "grid"} <= used <= light


def test_choice_works_without_a_script():
    reader = Reader(page([flow()]))
    styles = "".join(reader.text("style"))
    for name, choices in (("coverage", 2), ("steps", 6)):
        radios = reader.all("input", type="radio", name=name)
        assert [("checked" in e[1]) for e in radios] == [True] + [False] * (choices - 1)
    for e in reader.all("input"):
        assert f"#{e[1]['id']}:checked~.view-" in styles


def test_a_layer_is_marked_in_all_pictures():
    reader = Reader(page([flow(3)]))
    assert {e[0] for e in reader.found if e[1].get("data-layer") == "2"} == {"tr", "figure"}
    # of marks, the script of the page knows the layer by their titles
    assert "/^layer (\\d+)\\b/" in reader.text("script")[-1]
    of_layer = [title for title in reader.text("title") if title.startswith("layer 2")]
    assert len(of_layer) >= 2 + 4 + 1 + 6 + 5  # in lines by layer, heat maps and lines by epoch


def test_many_long_names_are_letters():
    """As in `lsg compare`; the card of each letter states its checkpoint."""
    paths = [f"runs/some longer name {seed}/run-{seed}/best.safetensors" for seed in range(6)]
    reader = Reader(page([flow(2, checkpoint=path, method="lsg") for path in paths]))
    assert reader.text("title")[0] == "Gradient flow: A, B, C, D, E, F"
    assert [text for text in reader.text("h2") if len(text) == 1] == list("ABCDEF")
    assert reader.text("p", **{"class": "path"}) == paths
    assert "some longer name" not in " ".join(reader.text("main"))
    short = Reader(page([flow(2, checkpoint=path, method="lsg") for path in ("a/1.x", "a/2.x")]))
    assert short.text("title")[0] == "Gradient flow: lsg 1.x, lsg 2.x"
