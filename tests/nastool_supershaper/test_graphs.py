"""Passes by CUDA graphs: the same gradients, whoever runs what was captured."""

from dataclasses import replace

import pytest
import torch

from nastool.errors import InvalidInputError
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import random_generator
from nastool_supernets.family import net_of
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.rules import Distillation, Subnet
from nastool_supershaper import graphs
from tests.supershaped import tiny_net

WIDTHS = (8, 16, 32)
MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
IDS, LABELS = MASKING.apply(
    random_generator(0, 9, 0).integers(5, 60, (6, 16)), random_generator(0, 0, 0)
)
# Two of them take the largest width in the first layer, so that a graph runs twice in a step.
SUBNETS = [Subnet("largest", (2,) * 3), Subnet("smallest", (0,) * 3), Subnet("random", (2, 0, 1))]
RULES = {"distillation": Distillation(0.3, 2.0), "distil_hidden": 0.7}

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def supernet(device="cpu"):
    return tiny_net(hidden_size=32, num_hidden_layers=3, widths=WIDTHS).to(device).train()


def gradients(model, micro=None, dtype="float32"):
    """Of two steps, the second one from where the first one left the buffers."""
    found = []
    for _ in range(2):
        losses = accumulate_gradients(net_of(model), IDS, LABELS, SUBNETS, micro, dtype, **RULES)
        found += [torch.tensor(losses), *(p.grad.clone() for p in model.parameters())]
        for parameter in model.parameters():
            parameter.grad.zero_()
    return found


class Repeated:
    """In place of a capture: what was to be captured runs again each time."""

    def __init__(self, device):
        pass

    def warm_up(self, *parts):
        for part in parts:
            part()

    def __call__(self, part):
        return part


@pytest.mark.parametrize("micro", [None, 4])
def test_passes_add_the_gradients_of_passes_without(monkeypatch, micro):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    expected = gradients(model, micro)
    runs = []
    replay = graphs.LayerGraphs.replay
    monkeypatch.setattr(
        graphs.LayerGraphs, "replay", lambda *args: runs.append(args[1:3]) or replay(*args)
    )
    model.supershaper.capture(micro or len(IDS), 16, "float32")
    # The last layer, and the rest of a batch that is none of the captured size, run as ever.
    for ours, theirs in zip(gradients(model, micro), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)
    assert runs == [(0, 32), (1, 32), (0, 8), (1, 8), (0, 32), (1, 8)] * 2
    # The same size again keeps what there is, and gradients that were dropped are summed again.
    kept = model.supershaper._graphs
    model.zero_grad()
    model.supershaper.capture(micro or len(IDS), 16, "float32")
    assert model.supershaper._graphs is kept
    for ours, theirs in zip(gradients(model, micro), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)


def test_passes_in_16_bits_are_those_of_autocast_bit_by_bit(monkeypatch):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    expected = gradients(model, None, "bfloat16")
    model.supershaper.capture(len(IDS), 16, "bfloat16")
    names = ["losses", *(name for name, _ in model.named_parameters())] * 2
    for name, ours, theirs in zip(names, gradients(model, None, "bfloat16"), expected, strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_layers_share_a_graph_a_width(monkeypatch):
    monkeypatch.setattr(graphs, "_Capture", Repeated)
    model = supernet()
    expected = gradients(model)
    made = []

    def backend(module, inputs):
        made.append(len(inputs))
        return module

    model.compile_layers(backend)
    model.supershaper.capture(len(IDS), 16, "float32")
    # Two layers at each of three widths.
    assert len(made) == len(WIDTHS)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)
    # And the last layer's, which is outside of the graphs, and the scores of the vocabulary.
    assert len(made) == 2 * len(WIDTHS) + 1


@on_a_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_replays_the_gradients_of_passes_without(dtype):
    model = supernet("cuda")
    expected = gradients(model, None, dtype)
    net_of(model).capture(len(IDS), 16, dtype)
    tolerance = 1e-4 if dtype == "float32" else 0.05
    for ours, theirs in zip(gradients(model, None, dtype), expected, strict=True):
        difference = (ours.double() - theirs.double()).norm()
        assert difference <= tolerance * theirs.double().norm()


def test_bad_input_is_named():
    with pytest.raises(InvalidInputError, match="cuda_graphs: expected a CUDA device, got cpu"):
        net_of(supernet()).capture(4, 16, "float32")
    alone = net_of(supernet().extract((8, 8, 8)))
    with pytest.raises(InvalidInputError, match="expected a supernet that has them, got Shaped"):
        alone.capture(4, 16, "float32")
    with pytest.raises(InvalidInputError, match="cuda_graphs: expected no gradient_checkpointing"):
        replace(PretrainingConfig(), cuda_graphs=True, gradient_checkpointing=True)
