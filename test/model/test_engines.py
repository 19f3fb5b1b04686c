"""Every engine gives the reference's logits, and an ensemble takes the fastest that gives its labels."""

import logging

import pytest
import torch
from model_helpers import make_trained_folder

from uga.model import ensemble as ensemble_module
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
    """The reference with a fault: shifted by ``offset`` for the first class, on a share of the pixels."""

    def __init__(self, real, share=0.0, *, slow=0, broken=False):
        self.real, self.share, self.slow, self.broken = real, share, slow, broken

    def logits(self, batch):
        if self.broken:
            raise RuntimeError("no such kernel")
        logits = self.real.logits(batch)
        for _ in range(self.slow):
            self.real.logits(batch)
        rows = round(self.share * batch.shape[-2])
        logits[:, :, :, :rows] = logits[:, :, :, :rows].roll(1, dims=2)
        return logits


@pytest.fixture
def with_engines(folders, monkeypatch):
    """An ensemble whose engines are the reference with faults, and whose reference takes a while."""

    def build(faults, choices=None):
        def fake(arithmetic, model, folds, device):
            real = make_engine(REFERENCE, model, folds, device)
            if arithmetic == REFERENCE:
                return FakeEngine(real, slow=20)
            return FakeEngine(real, **faults[arithmetic])

        monkeypatch.setattr(ensemble_module, "make_engine", fake)
        return Ensemble(folders["plain", "instance"], device=CPU, choices=choices or (*faults, REFERENCE))

    return build


FAST, SLOW = Arithmetic("openvino", "bf16"), Arithmetic("openvino", "fp32")


def test_the_first_that_agrees_and_is_faster_is_taken(with_engines):
    ensemble = with_engines({FAST: {}, SLOW: {}})
    ensemble.settle(windows())
    assert (ensemble.arithmetic, ensemble.agreement) == (FAST, 1.0)


@pytest.mark.parametrize("fault", [{"share": 0.1}, {"slow": 200}, {"broken": True}])
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
