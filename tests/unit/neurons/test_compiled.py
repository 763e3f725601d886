"""The backend ``compiled`` against the reference: the graph and its backward pass in every run of the tests, the C++ of them in the slow ones."""

import dataclasses
import os

import pytest
import torch

from lsgcli import registry
from lsgcli.config.run import from_dict
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.neurons.kernels import auto, compiled
from lsgcli.neurons.kernels.compiled import Compiled
from lsgcli.neurons.kernels.selftest import Result, compare
from tests.exports import slow_if
from tests.unit.neurons.cases import against_reference, case_with_options, large_case, random_case
from tests.unit.neurons.helpers import close, normal

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not compiled.compiled.available(CPU), reason="needs a C++ compiler")
pytestmark = [  # warnings of torch's compiler, about itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.fixture
def backend(monkeypatch):
    """A function that returns a new backend, whose graphs the named compiler of torch compiles; it is then also that of its name."""

    def using(
        compiler="aot_eager_decomp_partition",
    ):  # operations of torch one by one, as derived and divided for the backward pass
        torch._dynamo.reset()
        graph = torch.compile(compiled._layer, fullgraph=True, dynamic=False, backend=compiler)
        monkeypatch.setattr(compiled, "_graph", lambda: graph)
        compiled._warn.cache_clear()
        own = Compiled()
        monkeypatch.setitem(registry._entries, ("backend", "compiled"), own)
        return own

    return using


def broken(graph, example_inputs):
    """A compiler of torch that cannot compile."""
    raise RuntimeError("no compiler today\n\nSet TORCHDYNAMO_VERBOSE=1")


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "lsg" and record.levelname == "WARNING"]


@pytest.mark.parametrize(("draw", "seed"), [(random_case, 0), (case_with_options, 0), slow_if(True, case_with_options, 4)])
def test_graph(backend, draw, seed):
    """Spikes, gradients and statistics are those of the reference in float64."""
    used = backend()
    assert not against_reference(draw(seed), "compiled")
    assert used.problems == {CPU: ""}


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("draw", [random_case, case_with_options])
@pytest.mark.parametrize("seed", range(10))
def test_compiled_code(backend, draw, seed):
    """The same of the C++ that torch's compiler writes."""
    used = backend("inductor")
    assert not against_reference(draw(seed), "compiled")
    assert used.problems == {CPU: ""}


@pytest.mark.slow
@needs_compiler
def test_self_test(backend):
    """The cases that are compared at first use on a CUDA device pass."""
    backend("inductor")
    assert [result.failure for result in compare("compiled", CPU)] == ["", ""]


def test_keeps_the_input_only(backend):
    """Of the size of the activations, only z is kept for the backward pass: neither u nor spikes nor a normalised copy."""
    backend()
    case, kept = large_case(residual=None), {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        case.run("compiled", torch.bfloat16)
    size = case.z.numel() * torch.bfloat16.itemsize
    assert max(kept.values()) == size
    assert sum(kept.values()) < 1.25 * size


def test_one_line_where_it_cannot_compile(backend, monkeypatch, caplog):
    """The layers run on the reference, with equal bits; torch's compiler is not called again."""
    used = backend(broken)
    monkeypatch.setitem(auto.FASTEST, "cpu", "compiled")
    case = large_case()
    expected = case.run("reference", torch.float32)
    for name in ("compiled", "auto"):
        assert case.run(name, torch.float32).same_bits(expected)
    (line,) = said(caplog)
    assert "no compiler today" in line
    assert "\n" not in line
    assert "VERBOSE" not in line
    monkeypatch.setattr(compiled, "_graph", None)
    assert case.run("compiled", torch.float32).same_bits(expected)
    assert "no compiler today" in used.problems[CPU]


@pytest.mark.parametrize("cause", ["a compiler", "a result"])
def test_first_use_on_a_cuda_device(backend, monkeypatch, caplog, cause):
    """Small layers are compared once; if they differ, or do not compile, one warning says so."""
    used, cuda, calls = backend(broken), torch.device("cuda", 0), []

    def compared(name, device):
        calls.append(device)
        # This machine has no such device: its own compiler is the broken one.
        yield from compare(name, CPU) if cause == "a compiler" else [Result("a case", 0.5, "spikes of a case")]
        if cause == "a compiler":
            used.give_up(device, used.problems[CPU])

    monkeypatch.setattr(compiled, "compare", compared)
    assert [used.works(cuda), used.works(cuda)] == [False, False]
    assert calls == [cuda]
    assert ("spikes of a case" if cause == "a result" else "no compiler today") in used.problems[cuda]


def test_number_of_shapes(backend, monkeypatch, caplog):
    """A shape is compiled once; those beyond the limit run on the reference, and one line says so."""
    used = backend()
    monkeypatch.setattr(compiled, "SHAPES", 1)
    layers = [normal(3, 2, width, dtype=torch.float32, mean=0.3) for width in (4, 5, 6, 4)]
    for current in layers:
        assert torch.equal(LIF(backend="compiled")(current), LIF(backend="reference")(current))
    assert len(said(caplog)) == 1
    assert used.problems == {CPU: ""}


def test_batches_share_a_graph(backend, monkeypatch, caplog):
    """The weight of a batch in the running statistics, which differs between the first ones, is no part of the graph."""
    backend()
    monkeypatch.setattr(compiled, "SHAPES", 1)
    norms = {"compiled": TdBatchNorm2d(3), "reference": TdBatchNorm2d(3)}
    for seed in range(3):
        z = normal(2, 2, 3, 4, 4, seed=seed, dtype=torch.float32)
        for name, norm in norms.items():
            LIF(backend=name).normalise_and_fire(norm.parameters_for(z), z.clone())
    assert not said(caplog)
    for name in ("running_mean", "running_var"):
        assert close(getattr(norms["compiled"], name), getattr(norms["reference"], name), 1e-5)


def test_what_is_not_compiled(backend, monkeypatch):
    """Long sequences, and sizes that torch refuses, with its errors."""
    used = backend()
    monkeypatch.setattr(compiled, "_graph", None)
    LIF(backend="compiled")(torch.zeros(compiled.STEPS + 1, 2))
    assert LIF(backend="compiled")(torch.zeros(2, 0, 3)).shape == (2, 0, 3)
    case = dataclasses.replace(large_case(residual=None), z=normal(1, 1, 33, 1, 1), pool=1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        case.run("compiled", torch.float32)
    with pytest.raises(RuntimeError, match="too small"):
        dataclasses.replace(case, z=normal(2, 1, 33, 2, 2), pool=3).run("compiled", torch.float32)
    assert used.problems == {}


def test_without_a_compiler(monkeypatch):
    """The backend is not available and says what is missing; ``auto`` uses the reference."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="no-such-compiler"):
        LIF(backend="compiled")(torch.zeros(3, 2))
    monkeypatch.setitem(auto.FASTEST, "cpu", "compiled")
    assert auto.auto.fastest(torch.zeros(3, 2)) is registry.get("backend", "reference")
    with pytest.raises(ConfigError, match="meta"):
        compiled.compiled.check(torch.device("meta"))


def test_earlier_name():
    """Settings with the backend ``triton`` are read, and use ``compiled``."""
    config = from_dict({"backend": "triton"})
    assert registry.get("backend", config.backend) is compiled.compiled


def test_code_is_kept_where_only_the_user_can_write(backend, monkeypatch, tmp_path):
    """By default torch keeps it in a folder of /tmp that anybody can create."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend()
    used = []
    for shared in (False, True):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        compiled._folder.cache_clear()
        if shared:
            (tmp_path / "lsg" / "inductor").chmod(0o777)
        LIF(backend="compiled")(torch.ones(2, 1, 3))
        used.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    compiled._folder.cache_clear()
    assert used[0] == str(tmp_path / "lsg" / "inductor")
    assert used[1] != used[0]
    assert os.stat(used[1]).st_mode & 0o777 == 0o700
