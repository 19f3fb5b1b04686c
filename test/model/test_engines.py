"""Every engine gives the reference's logits, and an ensemble takes the fastest that gives its labels."""

import logging
import multiprocessing
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from model_helpers import make_trained_folder

from uga.errors import UserError
from uga.model import ensemble as ensemble_module
from uga.model import torch_engine
from uga.model.arithmetic import REFERENCE, Arithmetic, has_openvino, resolve_arithmetic
from uga.model.engine import make_engine
from uga.model.ensemble import Ensemble
from uga.model.folder import load_model

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
OTHERS = [
    Arithmetic("torch", "bf16"),
    pytest.param(Arithmetic("openvino", "fp32"), marks=needs_openvino),
    pytest.param(Arithmetic("openvino", "bf16"), marks=needs_openvino),
]


@pytest.fixture(autouse=True)
def _heard(monkeypatch):
    monkeypatch.setattr(logging.getLogger("uga"), "propagate", True)  # a command that ran before has cut it off


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models by network and norm."""
    folder = tmp_path_factory.mktemp("models")
    return {
        (network, norm): load_model(
            make_trained_folder(folder / f"{network}-{norm}", folds=2, network=network, norm=norm).model
        )
        for network in ("plain", "residual")
        for norm in ("instance", "batch")
    }


def windows(count=1):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("arithmetic", OTHERS, ids=str)
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_logits_are_the_references(folders, network, norm, arithmetic):
    model, batch = folders[network, norm], windows(3)
    expected = make_engine(REFERENCE, model, (1, 0), CPU).logits(batch)
    found = make_engine(arithmetic, model, (1, 0), CPU).logits(batch)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape == (2, 3, 3, 64, 64)
    if arithmetic.precision == "fp32":
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    else:
        assert not torch.equal(found, expected)
        assert (found - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize("arithmetic", OTHERS, ids=str)
def test_a_window_does_not_depend_on_its_batch_and_results_are_the_callers(folders, arithmetic):
    engine = make_engine(arithmetic, folders["plain", "batch"], (0, 1), CPU)
    batch = windows(2)
    together = engine.logits(batch).clone()
    alone = torch.cat([engine.logits(batch[i : i + 1]).clone() for i in range(2)], dim=1)
    tolerance = 1e-4 if arithmetic.precision == "fp32" else 0.1
    torch.testing.assert_close(alone, together, rtol=tolerance, atol=tolerance)
    with torch.inference_mode():
        engine.logits(batch).zero_()
    assert torch.equal(engine.logits(batch), together)


class FakeEngine:
    """The reference with faults, which takes so many seconds by a clock of its own.

    Args:
        real: the reference.
        clock: what time it is.
        share: of the pixels that get another class.
        seconds: of the first run, and of those after it.
        broken: whether it fails.
        words: how it fails.
    """

    def __init__(self, real, clock, *, share=0.0, seconds=(1, 1), broken=False, words="no such kernel"):
        self.real, self.clock, self.share, self.seconds, self.broken = real, clock, share, seconds, broken
        self.words = words

    def logits(self, batch):
        if self.broken:
            raise RuntimeError(self.words)
        self.clock.now += self.seconds[0]
        self.seconds = self.seconds[1], self.seconds[1]
        logits = self.real.logits(batch)
        rows = round(self.share * batch.shape[-2])
        logits[:, :, :, :rows] = logits[:, :, :, :rows].roll(1, dims=2)
        return logits


@pytest.fixture
def with_engines(folders, monkeypatch):
    """An ensemble of two folds whose engines are the reference with faults; each fold of the reference takes 1 s."""

    def build(faults, choices=None, reference=(1, 1)):
        clock = SimpleNamespace(now=0.0)
        reference_takes = iter((reference[0], *[reference[1]] * 100))

        def fake(arithmetic, model, folds, device):
            real = make_engine(REFERENCE, model, folds, device)
            if arithmetic == REFERENCE:
                return FakeEngine(real, clock, seconds=(next(reference_takes), reference[1]))
            return FakeEngine(real, clock, **faults[arithmetic])

        monkeypatch.setattr(ensemble_module, "make_engine", fake)
        monkeypatch.setattr(ensemble_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
        return Ensemble(folders["plain", "instance"], device=CPU, choices=choices or (*faults, REFERENCE))

    return build


FAST, SLOW = Arithmetic("openvino", "bf16"), Arithmetic("openvino", "fp32")


def test_a_gpu_that_is_not_the_first_becomes_the_current_one(folders, monkeypatch):
    """Else what waits for the maps to be copied would wait for the first one."""
    called = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: called.append(("current", device)))
    monkeypatch.setattr(ensemble_module, "make_engine", lambda _1, _2, _3, device: called.append(("engine", device)))
    second = torch.device("cuda", 1)
    Ensemble(folders["plain", "instance"], device=second)
    assert called == [("current", second), ("engine", second)]


def test_the_first_that_agrees_and_is_faster_is_taken(with_engines):
    ensemble = with_engines({FAST: {}, SLOW: {}})
    ensemble.settle(windows())
    assert (ensemble.arithmetic, ensemble.agreement) == (FAST, 1.0)


@pytest.mark.parametrize("fault", [{"share": 0.1}, {"seconds": (2, 2)}, {"broken": True}])
def test_one_that_disagrees_is_slow_or_broken_is_passed_over(with_engines, fault):
    ensemble = with_engines({FAST: fault, SLOW: {}})
    ensemble.settle(windows())
    assert (ensemble.arithmetic, ensemble.agreement) == (SLOW, 1.0)


def test_the_reference_is_left_and_needs_no_proof(with_engines, caplog):
    ensemble = with_engines({FAST: {"share": 0.1}, SLOW: {"share": 0.05}})
    with caplog.at_level(logging.INFO, "uga"):
        ensemble.settle(windows())
    assert (ensemble.arithmetic, ensemble.agreement) == (REFERENCE, None)
    assert [record.args[0] for record in caplog.records if "only" in record.msg] == [FAST, SLOW]
    assert all(record.levelno == logging.INFO for record in caplog.records)


def test_what_the_user_named_stays_with_a_warning(with_engines, caplog):
    ensemble = with_engines({FAST: {"share": 0.5}}, choices=(FAST,))
    with caplog.at_level(logging.WARNING, "uga"):
        ensemble.settle(windows())
    assert ensemble.arithmetic == FAST
    assert ensemble.agreement < 0.9
    assert "openvino bf16" in caplog.text


def test_what_comes_nearest_is_taken_if_nothing_that_the_user_named_agrees(with_engines, caplog):
    ensemble = with_engines({FAST: {"share": 0.1}, SLOW: {"share": 0.5}}, choices=(FAST, SLOW))
    with caplog.at_level(logging.WARNING, "uga"):
        ensemble.settle(windows())
    assert ensemble.arithmetic == FAST
    assert 0.85 < ensemble.agreement < 0.995
    assert [record.args[0] for record in caplog.records if record.levelno == logging.WARNING] == [FAST]


def test_nothing_that_works_is_one_sentence(with_engines):
    ensemble = with_engines({FAST: {"broken": True}, SLOW: {"broken": True}}, choices=(FAST, SLOW))
    with pytest.raises(UserError, match="Neither openvino bf16 or openvino fp32 works on cpu"):
        ensemble.settle(windows())


def test_only_warm_runs_are_compared(with_engines):
    ensemble = with_engines({FAST: {"seconds": (100, 3)}, SLOW: {"seconds": (100, 1)}}, reference=(100, 1))
    ensemble.settle(windows())
    assert ensemble.arithmetic == SLOW


class Interruption(BaseException):
    """As a signal raises it."""


def test_a_choice_that_broke_off_is_made_again(with_engines, monkeypatch):
    ensemble = with_engines({FAST: {"share": 0.1}, SLOW: {}})
    make = ensemble_module.make_engine
    for fault in ("comparing", "loading"):

        def interrupted(arithmetic, *rest, fault=fault):
            if arithmetic == (REFERENCE if fault == "comparing" else SLOW):
                raise Interruption
            return make(arithmetic, *rest)

        monkeypatch.setattr(ensemble_module, "make_engine", interrupted)
        with pytest.raises(Interruption):
            ensemble.settle(windows())
    monkeypatch.setattr(ensemble_module, "make_engine", make)
    ensemble.settle(windows())
    assert (ensemble.arithmetic, ensemble.agreement) == (SLOW, 1.0)
    assert ensemble.logits(windows()).shape == (2, 1, 3, 64, 64)


def test_it_is_settled_once(with_engines):
    ensemble = with_engines({FAST: {}})
    ensemble.settle(windows())
    ensemble._engine.broken = True
    ensemble.settle(windows())
    assert ensemble.arithmetic == FAST


def test_memory_that_runs_out_is_not_taken_for_a_missing_kernel(with_engines, monkeypatch):
    ensemble = with_engines({FAST: {}})

    def no_memory(_):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(ensemble._engine, "logits", no_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        ensemble.settle(windows())


NO_ENGINE = {"broken": True, "words": "GET was unable to find an engine to execute this computation"}


def test_a_precision_that_cudnn_has_no_kernel_for_is_passed_over(with_engines, caplog):
    ensemble = with_engines({FAST: NO_ENGINE, SLOW: {}})
    ensemble.settle(windows())
    assert (ensemble.arithmetic, ensemble.agreement) == (SLOW, 1.0)
    assert "openvino bf16 does not work here (GET was unable to find an engine" in caplog.text


def test_without_another_choice_it_is_raised(with_engines):
    with pytest.raises(RuntimeError, match="unable to find an engine"):
        with_engines({FAST: NO_ENGINE}, choices=(FAST,)).settle(windows())


@needs_openvino
def test_processes_beside_each_other_do_not_pin_their_threads(folders, monkeypatch):
    from uga.model import openvino_engine  # noqa: PLC0415 - an optional package

    seen = []

    class Core(openvino_engine.openvino.Core):
        def compile_model(self, model, device, settings):
            seen.append(settings.get("ENABLE_CPU_PINNING"))
            return super().compile_model(model, device, settings)

    core = Core()
    monkeypatch.setattr(openvino_engine, "_core", lambda: core)
    for parent in (None, object()):
        monkeypatch.setattr(multiprocessing, "parent_process", lambda parent=parent: parent)
        make_engine(Arithmetic("openvino", "fp32"), folders["plain", "batch"], (0,), CPU)
    assert seen == [None, False]


def test_fp32_is_not_tf32(monkeypatch):
    cudnn = SimpleNamespace(allow_tf32=True, benchmark=False)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    torch_engine._set_up_cudnn("bf16")
    assert (cudnn.allow_tf32, cudnn.benchmark) == (True, True)
    torch_engine._set_up_cudnn("fp32")
    assert (cudnn.allow_tf32, cudnn.benchmark) == (False, True)


class EagerGraph:
    """Stands for a CUDA graph where there is no GPU."""

    made: list["EagerGraph"]

    def __init__(self, run, example, *, beside):
        self.run, self.beside = run, beside
        self.made.append(self)

    def __call__(self, batch):
        return self.run(batch)


def as_on_a_gpu(model, monkeypatch, graph):
    engine = make_engine(Arithmetic("torch", "bf16"), model, (0, 1), CPU)
    engine._records, engine._graphs = True, {}
    monkeypatch.setattr(torch_engine, "_Graph", graph)
    return engine


def test_graphs_share_the_memory_of_the_first(folders, monkeypatch):
    monkeypatch.setattr(EagerGraph, "made", [], raising=False)
    engine = as_on_a_gpu(folders["plain", "batch"], monkeypatch, EagerGraph)
    for count in (2, 1, 2, 3):
        assert engine.logits(windows(count)).shape == (2, count, 3, 64, 64)
    first, *others = EagerGraph.made
    assert first.beside is None
    assert [graph.beside for graph in others] == [first, first]


@pytest.mark.parametrize("hidden", [False, True], ids=["told", "hidden-by-the-end-of-the-recording"])
def test_too_little_memory_for_a_graph_costs_speed_only(folders, monkeypatch, caplog, hidden):
    attempts = []

    def no_memory(*_, **__):
        attempts.append(1)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            if hidden:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    model = folders["plain", "batch"]
    expected = make_engine(Arithmetic("torch", "bf16"), model, (0, 1), CPU).logits(windows(2))
    engine = as_on_a_gpu(model, monkeypatch, no_memory)
    for _ in range(2):
        assert torch.equal(engine.logits(windows(2)), expected)
    assert len(attempts) == 1
    assert "too little memory" in caplog.text


class FakeCuda:
    """Stands for `torch.cuda`: runs take so many bytes for each window, and so many are free when a run is over."""

    def __init__(self, window_bytes, free_bytes):
        self.window_bytes, self.free_bytes = window_bytes, free_bytes
        self.peak, self.cached, self.recorded = 0, True, []

    def run(self, batch):
        self.cached, self.peak = True, max(self.peak, 100 + self.window_bytes * len(batch))
        return batch

    def empty_cache(self):
        self.cached = False

    def mem_get_info(self):
        return 0 if self.cached else self.free_bytes, 1 << 40

    def reset_peak_memory_stats(self):
        self.peak = 100

    def memory_allocated(self):
        return 100

    def max_memory_allocated(self):
        return self.peak

    def graph(self, recording, *, pool, capture_error_mode):
        self.recorded.append(pool)
        return nullcontext()

    def stream(self, _):
        return nullcontext()

    def Stream(self):  # noqa: N802 - torch's name
        return SimpleNamespace(wait_stream=lambda _: None)

    current_stream = Stream

    def CUDAGraph(self):  # noqa: N802
        return SimpleNamespace(pool=lambda: "pool of the first")


@pytest.mark.parametrize(("free_bytes", "recorded"), [(2399, 0), (2400, 1)])
def test_a_recording_for_which_there_is_too_little_memory_is_not_begun(monkeypatch, free_bytes, recorded):
    cuda = FakeCuda(1000, free_bytes)
    cuda.peak = 1 << 40  # of the search for kernels, or of what else ran before
    monkeypatch.setattr(torch, "cuda", cuda)
    with nullcontext() if recorded else pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        torch_engine._Graph(cuda.run, windows(2), beside=None)
    assert cuda.recorded == [None] * recorded


def test_a_recording_beside_a_larger_one_needs_no_memory_of_its_own(monkeypatch):
    cuda = FakeCuda(1000, 1 << 20)
    monkeypatch.setattr(torch, "cuda", cuda)
    first = torch_engine._Graph(cuda.run, windows(4), beside=None)
    cuda.free_bytes = 0
    torch_engine._Graph(cuda.run, windows(3), beside=first)
    assert cuda.recorded == [None, "pool of the first"]
    with pytest.raises(torch.OutOfMemoryError):
        torch_engine._Graph(cuda.run, windows(5), beside=first)


def test_graphs_are_recorded_beside_the_largest(folders, monkeypatch):
    monkeypatch.setattr(EagerGraph, "made", [], raising=False)
    engine = as_on_a_gpu(folders["plain", "batch"], monkeypatch, EagerGraph)
    for count in (1, 4, 3):
        engine.logits(windows(count))
    one, four, three = EagerGraph.made
    assert (one.beside, four.beside, three.beside) == (None, one, four)


@pytest.mark.parametrize("given_up", [False, True])
def test_released_graphs_are_gone_and_smaller_ones_are_recorded(folders, monkeypatch, given_up):
    monkeypatch.setattr(EagerGraph, "made", [], raising=False)
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(engine._graphs)))
    engine = as_on_a_gpu(folders["plain", "batch"], monkeypatch, EagerGraph)
    engine.logits(windows(4))
    if given_up:
        engine._graphs = None
    engine.release()
    assert emptied == [0]
    for _ in range(2):
        engine.logits(windows(2))
    assert [graph.beside for graph in EagerGraph.made] == [None, None]
    assert [size[0] for size in engine._graphs] == [2]


def test_an_engine_without_graphs_has_none_to_release(folders):
    for arithmetic in (REFERENCE, Arithmetic("openvino", "fp32")) if has_openvino() else (REFERENCE,):
        engine = make_engine(arithmetic, folders["plain", "batch"], (0,), CPU)
        expected = engine.logits(windows(2)).clone()
        engine.release()
        assert torch.equal(engine.logits(windows(2)), expected)


def test_another_failure_of_a_recording_is_not_hidden(folders, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA error: invalid device function")

    with pytest.raises(RuntimeError, match="invalid device function"):
        as_on_a_gpu(folders["plain", "batch"], monkeypatch, broken).logits(windows())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_gpu_agrees_with_cpu(folders, norm):
    device, model = torch.device("cuda"), folders["plain", norm]
    exact = make_engine(REFERENCE, model, (0, 1), CPU).logits(windows(2))
    for choice in (*resolve_arithmetic("auto", "auto", device), Arithmetic("torch", "fp16")):
        engine = make_engine(choice, model, (0, 1), device)
        for count in (2, 1, 2):  # a graph for each shape of batch, used again
            found = engine.logits(windows(2)[:count].to(device))
            assert found.dtype == torch.float32
            assert (found.cpu() - exact[:, :count]).abs().mean() < 0.1 * exact.std()
