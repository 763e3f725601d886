"""Plug-ins that cannot be loaded, or are not what they should be: each is named, with its package and entry point, and ends with status 2."""

import functools
import hashlib
import json
import multiprocessing
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from lsgcli import registry

OPTIONS = shlex.split("--dataset digits --arch mlp -T 2 --width-multiplier 0.05 --epochs 1 --augment none")
SHORT = [*OPTIONS, "--batch-size", "256", "--out", "run", "-q"]
IMPORTS = "import math\nimport torch\nfrom lsgcli.registry import register\nfrom lsgcli.neurons.methods import Method\nfrom lsgcli.neurons.widths import WidthRule\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package: ``install("lsg.surrogate", "cosine = kit.shapes:cosine", source)``, whose source is that of kit/shapes.py."""
    root = tmp_path / "site"
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(registry, "installed", functools.cache(registry.installed.__wrapped__))

    def write(group, line, source, package="kit", module="shapes"):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
        (root / package / f"{module}.py").write_text(source)
        about = root / f"{package}-0.3.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.3\n")
        with (about / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{line}\n")
        registry.installed.cache_clear()

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] in ("kit", "other")]:
        del sys.modules[name]
    for key in [
        key for key, entry in registry._entries.items() if getattr(entry, "__module__", "").startswith(("kit.", "other."))
    ]:
        del registry._entries[key]


SURROGATE = "lsg.surrogate", "cosine = kit.shapes:cosine"
COSINE = "def cosine(x, width):\n    return (1 + (math.pi * x / width).cos()) * (x.abs() < width) / (2 * width)\n"
METHOD = "lsg.method", "mine = kit.shapes:mine"
MINE = "class Mine(WidthRule):\n    formula = '?'\n    def alpha(self, layer):\n        return "
ROW = "mine = Method(learns_decay=True, width=Mine())\n"

MISTAKES = {
    "an import that fails": (SURROGATE, "import absent\n" + COSINE, "surrogate", "ModuleNotFoundError: No module named 'absent'", "shapes.py, line 1"),
    "an import that exits": (SURROGATE, "import sys\nsys.exit(7)\n# cosine\n", "surrogate", "SystemExit: 7", "shapes.py, line 2"),
    "no Python": (SURROGATE, "def cosine(x, width:\n", "surrogate", "SyntaxError", "shapes.py, line 1"),
    "another name": (SURROGATE, IMPORTS + "def cosinus(x, width): ...\n# cosine\n", "surrogate", "has no attribute 'cosine'", "pip uninstall kit"),
    "no such module": (("lsg.surrogate", "cosine = kit.shape:cosine"), COSINE, "surrogate", "No module named 'kit.shape'", "pip uninstall kit"),
    "x itself": (SURROGATE, "def cosine(x, width):\n    return x\n", "surrogate", "found an area of", "Divide h by its area"),
    "no number": (SURROGATE, "def cosine(x, width):\n    return x * float('nan')\n", "surrogate", "found an area of nan", ""),
    "a height of 1": (SURROGATE, "def cosine(x, width):\n    return (x.abs() < width / 2).to(x.dtype)\n", "surrogate", "a peak of 0.5/width at width 0.5", ""),
    "a number": (SURROGATE, "def cosine(x, width):\n    return 1.0\n", "surrogate", "surrogate cosine: found 1.0", ""),
    "a module": (("lsg.surrogate", "cosine = kit.shapes"), COSINE, "surrogate", "expected a function", ""),
    "a negative width": (METHOD, IMPORTS + MINE + "-layer.width\n" + ROW, "method", "method mine: found the width alpha [-1.0]", ""),
    "an infinite width": (METHOD, IMPORTS + MINE + "layer.width / 0\n" + ROW, "method", "method mine: found the width alpha [inf]", ""),
    "a width of another shape": (METHOD, IMPORTS + MINE + "layer.width.expand(3, 5)\n" + ROW, "method", "method mine: found the width alpha [1.0, 1.0, 1.0, 1.0], of shape (3, 5)", ""),
    "half a width rule": (METHOD, IMPORTS + "class Mine(WidthRule):\n    formula = '?'\n" + ROW, "method", "abstract class Mine", "shapes.py, line 8"),
    "a width rule without a formula": (METHOD, IMPORTS + MINE.replace("formula = '?'", "pass") + "layer.width\n" + ROW, "method", "expected a WidthRule that defines formula and alpha", ""),
    "a method with a field too few": (METHOD, IMPORTS + MINE + "layer.width\nmine = Method(width=Mine())\n", "method", "missing 1 required positional argument: 'learns_decay'", "shapes.py, line "),
    "no method": (METHOD, IMPORTS + "class mine:\n    pass\n", "method", "expected an instance of Method, from lsgcli.neurons.methods", ""),
    "a width that becomes negative": (METHOD, IMPORTS + MINE + "layer.width if abs(layer.beta - 0.2) < 1e-6 else -layer.width\n" + ROW, "method", "method mine: found the width alpha [-1.0]", ""),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(program, install, mistake):
    (group, line), source, option, said, where = MISTAKES[mistake]
    install(group, line, source)
    found = program("train", *SHORT, f"--{option}", line.partition(" ")[0])
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr
    assert where in found.stderr
    assert "unexpected" not in found.stderr
    assert "Traceback" not in found.stderr
    if not (said.startswith((f"{option} ", "found an area", "a peak of"))):  # which name the plug-in by what it is called
        assert f"entry point {line} (group {group}) of kit 0.3: " in found.stderr


def test_a_good_plug_in_trains(program, install):
    install(*SURROGATE, IMPORTS + COSINE)
    assert program("train", *SHORT, "--surrogate", "cosine").returncode == 0
    assert json.loads(Path("run/config.json").read_text())["settings"]["surrogate"] == "cosine"


def test_runs_of_a_plug_in_that_is_not_installed(program, install, tmp_path):
    install(*SURROGATE, IMPORTS + COSINE)
    for seed in (1, 2):
        words = [*SHORT[:-2], f"runs/{seed}", "-q", "--seed", seed, "--augment", "none"]
        program("train", *words, "--surrogate", "cosine", status=0)
    config = Path("runs/2/config.json")
    facts = json.loads(config.read_text())
    facts["settings"] |= {"method": "mine", "augment": "flip,twirl"}
    config.write_text(json.dumps(facts))
    (tmp_path / "site" / "kit-0.3.dist-info" / "entry_points.txt").unlink()
    registry.installed.cache_clear()
    registry._entries.pop(("surrogate", "cosine"))

    listed = program("runs", "--json", "--sort", "seed", status=0)
    records = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(one["state"], one["method"], one["seed"]) for one in records] == [("finished", "lsg", 1), ("finished", "mine", 2)]
    compared = program("compare", "runs", "--json", status=0)
    record = json.loads(compared.stdout)
    assert [run["state"] for run in record["runs"]] == ["finished", "finished"]
    assert record["settings"]["method"] == ["lsg", "mine"]
    assert program("compare", "runs/1", "--html", "runs.html", status=0).stderr == (
        "surrogate 'cosine': neither lsg nor an installed plug-in has it: 1 run\n"
    )
    for done in (listed, compared):
        lines = [line.partition(": neither lsg nor an installed plug-in has it: ") for line in done.stderr.splitlines()]
        assert sorted((what, number) for what, _, number in lines) == [
            ("augment 'flip,twirl'", "1 run"), ("method 'mine'", "1 run"), ("surrogate 'cosine'", "2 runs"),
        ]  # fmt: skip
    assert "unknown surrogate 'cosine'" in program("train", "--resume", "runs/1", "--epochs", "2", status=2).stderr


@pytest.mark.parametrize("line", ["atan = kit.shapes:cosine", "mine = kit.shapes:cosine"])
def test_a_name_of_two_packages_is_refused(program, install, line):
    install("lsg.surrogate", line, IMPORTS + COSINE)
    install("lsg.surrogate", "mine = other.shapes:cosine", IMPORTS + COSINE, package="other")
    name = line.partition(" ")[0]
    found = program("train", *SHORT, "--surrogate", name, status=2)
    assert f"surrogate '{name}': found in " in found.stderr
    assert f"entry point {line} (group lsg.surrogate) of kit 0.3" in found.stderr
    assert ("lsgcli itself" if name == "atan" else "of other 0.3") in found.stderr


FORMAT = """
from lsgcli.export.base import Format

class Mine(Format):
    suffix = ".mine"
    def write(self, network, content, path, options):
        path.write_bytes(b"")
"""


def test_a_format_without_open_fails_before_anything_is_written(program, install, trained):
    install("lsg.format", "mine = kit.shapes:Mine", FORMAT)
    found = program("export", trained / "best.safetensors", "--format", "mine", "-o", "net.mine", status=2)
    assert "entry point mine = kit.shapes:Mine (group lsg.format) of kit 0.3: " in found.stderr
    assert "found Mine" in found.stderr


LOSS = "def mine(logits, labels, config):\n    return "


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("logits.mean(0)", "loss mine: found a tensor of shape (256, 10), expected a scalar tensor"),
        ("logits.detach().mean()", "loss mine: found a tensor of shape (), expected a scalar tensor with a gradient"),
        ("3.0", "loss mine: found float, expected a scalar tensor"),
    ],
)
def test_a_loss_that_is_no_loss(program, install, body, said):
    install("lsg.loss", "mine = kit.shapes:mine", LOSS + body)
    found = program("train", *SHORT, "--loss", "mine", status=2)
    assert said in found.stderr


PLUGIN = IMPORTS + "from pathlib import Path\nPath('executed').touch()\n\n@register('surrogate', 'cosine')\n" + COSINE


@pytest.fixture
def fresh(monkeypatch):
    """Forget plug-in files that this process has imported, as a new process: ``fresh()``."""
    path = [*sys.path]

    def forget():
        sys.path[:] = path
        for file in registry.files:
            sys.modules.pop(Path(file).stem, None)
        registry.files.clear()
        registry._entries.pop(("surrogate", "cosine"), None)
        Path("executed").unlink(missing_ok=True)

    yield forget
    forget()


def test_a_file_is_imported_and_the_run_finds_it_again(program, fresh):
    Path("mine").mkdir()
    file = Path("mine", "shapes.py").absolute()
    file.write_text(PLUGIN)
    program("train", "--plugin", "mine/shapes.py", *SHORT, "--surrogate", "cosine", status=0)
    facts = json.loads(Path("run/config.json").read_text())
    assert facts["plugins"] == {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}
    assert f"--plugin {file}" in Path("run/report.html").read_text()
    for command in ("eval", "show"):
        fresh()
        program(command, "run", "-q", *["--json"] * (command == "show"), status=0)
    fresh()
    assert 'surrogate = "cosine"' in program("train", "--config", "run", "--print-config", status=0).stdout
    fresh()
    program("train", "--resume", "run", "--epochs", "2", "-q", status=0)
    fresh()
    file.write_text(PLUGIN + "# more\n")
    assert "shapes.py: differs from the file that" in program("eval", "run", status=0).stderr
    fresh()
    file.rename("shapes.py")
    gone = program("eval", "run", status=2)
    assert f"{file}" in gone.stderr
    assert "--plugin" in gone.stderr
    fresh()
    program("eval", "run", "--plugin", "shapes.py", "-q", status=0)


def test_a_file_that_nobody_named_here_is_not_executed(program, fresh, tmp_path):
    """A run of somebody else may name any file; the command line must name it, too."""
    Path("shapes.py").write_text(PLUGIN)
    program("train", "--plugin", "shapes.py", *SHORT, "--surrogate", "cosine", status=0)
    fresh()
    elsewhere = {"XDG_CACHE_HOME": str(tmp_path / "other")}
    for words in (("eval", "run"), ("train", "--resume", "run", "--epochs", "2")):
        refused = program(*words, env=elsewhere, status=2)
        assert "shapes.py" in refused.stderr
        assert "--plugin" in refused.stderr
        assert not Path("executed").exists()
    program("eval", "run", "--plugin", "shapes.py", "-q", env=elsewhere, status=0)
    assert Path("executed").exists()
    fresh()
    program("eval", "run", "-q", env=elsewhere, status=0)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.py", None, "found no such file"),
        ("shapes.txt", PLUGIN, "expected a Python file"),
        ("my-shapes.py", PLUGIN, "expected a Python file whose name is that of a module"),
        ("json.py", PLUGIN, "is that of another module"),
        ("wrong.py", "x = 1\nraise ValueError('no')\n", "ValueError: no, in "),
        ("wrong.py", "def f(\n", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_plug_in(program, fresh, name, text, said):
    if text is not None:
        Path(name).write_text(text)
    found = program("train", "--plugin", name, *SHORT, status=2)
    assert said in found.stderr
    assert f"--plugin {name}" in found.stderr
    assert "Traceback" not in found.stderr
    sys.modules.pop("wrong", None)


def test_commands_of_cells_name_the_file(program, fresh):
    Path("shapes.py").write_text(PLUGIN)
    found = program(
        *("ablate", "--plugin", "shapes.py", *OPTIONS, "--grid", "surrogate=cosine,atan", "--seeds", "0", "--out", "abl"),
        *("--print-commands", "-q"),
        status=0,
    )
    for line in found.stdout.splitlines():
        words = shlex.split(line)
        assert words[words.index("--plugin") + 1] == str(Path("shapes.py").absolute())


def test_other_processes_import_the_file(fresh, tmp_path):
    """Those that prepare data receive its objects."""
    (tmp_path / "shapes.py").write_text("def twice(x):\n    return 2 * x\n")
    registry.import_file(tmp_path / "shapes.py")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert processes.submit(sys.modules["shapes"].twice, 3).result(60) == 6
