"""What every supernet keeps, so that it can be trained, measured, searched and shipped."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_LENGTH, _BLOCKS = 12, 5


class SupernetConformance(ABC):
    """A suite for families of supernets, which torch and ``nastool_supernets`` are needed for.

    Subclass it, and override `make` and `reference`.
    """

    tolerance = 1e-9
    """Largest difference that rounding may make, in double precision, of numbers around 1."""

    @abstractmethod
    def make(self) -> Any:
        """A small `Supernet` with random weights, the same at every call.

        It must read blocks of 12 tokens or more.
        """

    @abstractmethod
    def reference(self, net: Any) -> Any:
        """The largest subnet by other code, a library's for example.

        Args:
            net: The supernet, whose weights it is to have, in their precision.

        Returns:
            A model that takes ``input_ids`` and ``attention_mask``, and returns ``logits``.
        """

    # ----------------------------------------------------------------------------------------------
    # What the checks use

    def _net(self) -> Any:
        pytest.importorskip("nastool_supernets.supernet")
        net = self.make()
        net.model.double()
        net.model.eval()
        return net

    def _genotypes(self, net: Any) -> list[tuple[int, ...]]:
        """The ends, all that differ from one in a single gene, and a few others."""
        space = net.space
        ends = [space.smallest, space.largest]
        near = [
            np.where(np.arange(len(end)) == gene, other[gene], end)
            for end, other in (ends, ends[::-1])
            for gene in range(len(end))
        ]
        drawn = space.sample(4, np.random.default_rng(0))
        rows = space.canonicalize(np.array([*ends, *near, *drawn]))
        return list(dict.fromkeys(tuple(row) for row in rows.tolist()))

    def _blocks(self, net: Any, blocks: int = _BLOCKS) -> Any:
        generator = np.random.default_rng(0)
        return generator.integers(5, net.model.config.vocab_size, (blocks, _LENGTH))

    def _task(self, net: Any) -> Any:
        size = net.model.config.vocab_size
        if net.task == "causal-lm":
            return pytest.importorskip("nastool_supernets.corpus.next_tokens").NextTokens(size)
        masking = pytest.importorskip("nastool_supernets.corpus.masking").Masking
        return masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=size, rate=0.3)

    def _batch(self, net: Any) -> tuple[Any, Any]:
        torch = pytest.importorskip("torch")
        ids, labels = self._task(net).apply(self._blocks(net), np.random.default_rng(1))
        return torch.as_tensor(ids), torch.as_tensor(labels)

    def _close(self, found: Any, expected: Any) -> None:
        pytest.importorskip("torch").testing.assert_close(
            found, expected, rtol=self.tolerance, atol=self.tolerance
        )

    # ----------------------------------------------------------------------------------------------
    # What it computes

    def test_the_largest_subnet_is_its_reference(self) -> None:
        """Whatever the slices do, the whole net is the one that people know."""
        net = self._net()
        largest = tuple(net.space.largest.tolist())
        inputs, real = self._inputs(net)
        reference = self.reference(net)
        self._close(self._logits(net, inputs, largest)[real], _run(reference, inputs)[real])

    def test_a_slice_is_what_is_cut_out(self) -> None:
        """What is trained and measured is what ships."""
        net = self._net()
        inputs, real = self._inputs(net)
        for genotype in self._genotypes(net):
            sliced = self._logits(net, inputs, genotype)[real]
            self._close(_run(net.extract(genotype), inputs)[real], sliced)

    def test_what_is_cut_out_stands_alone(self) -> None:
        """It has weights of its own, and leaves the supernet as it was."""
        net = self._net()
        inputs, real = self._inputs(net)
        before = {name: p.detach().clone() for name, p in net.model.named_parameters()}
        shape = net.extract(tuple(net.space.smallest.tolist())).eval()
        first = _run(shape, inputs)[real]
        for name, parameter in net.model.named_parameters():
            assert bool((parameter == before[name]).all()), f"extract changed {name}"
            parameter.data.add_(1.0)
        self._close(_run(shape, inputs)[real], first)

    def test_smaller_subnets_are_smaller(self) -> None:
        """The genotype is not ignored: fewer weights ship, and fewer operations are counted."""
        net = self._net()
        ends = [tuple(end.tolist()) for end in (net.space.smallest, net.space.largest)]
        sizes = [sum(p.numel() for p in net.extract(end).parameters()) for end in ends]
        assert sizes[0] < sizes[1], f"expected a smaller subnet, got {sizes}"
        flops = [net.flops(end, _BLOCKS, _LENGTH, _BLOCKS) for end in ends]
        assert 0 < flops[0] <= flops[1], f"expected fewer operations, got {flops}"

    def test_losses_are_those_of_the_logits(self) -> None:
        """One loss a target, in reading order."""
        torch = pytest.importorskip("torch")
        net = self._net()
        ids, labels = self._batch(net)
        inputs = _inputs(ids)
        wanted = labels != -100
        for genotype in self._genotypes(net):
            logits = self._logits(net, inputs, genotype)
            expected = torch.nn.functional.cross_entropy(
                logits[wanted], labels[wanted], reduction="none"
            )
            self._close(net.losses(ids, labels, genotype).detach(), expected)

    def test_nothing_is_seen_that_is_to_be_predicted(self) -> None:
        """A causal net sees no later token; no net sees what labels say."""
        net = self._net()
        ids, labels = self._batch(net)
        genotype = tuple(net.space.largest.tolist())
        first = net.losses(ids, labels, genotype).detach()
        if net.task == "causal-lm":
            half = _LENGTH // 2
            other = ids.clone()
            other[:, half:] = ids.flip(0)[:, half:]
            seen = labels.clone()
            seen[:, half - 1 :] = -100
            self._close(
                net.losses(other, seen, genotype).detach(), net.losses(ids, seen, genotype).detach()
            )
        fewer = labels.clone()
        fewer[1:] = -100
        count = int((labels[0] != -100).sum())
        self._close(net.losses(ids, fewer, genotype).detach(), first[:count])

    # ----------------------------------------------------------------------------------------------
    # What training does to it

    def test_gradients_outside_the_slice_are_zero(self) -> None:
        """What a subnet's gradient does not reach changes nothing that it computes."""
        torch = pytest.importorskip("torch")
        net = self._net()
        # Two weights that start at zero, one behind the other, have no gradient and matter both.
        noise = torch.Generator().manual_seed(0)
        for parameter in net.model.parameters():
            parameter.data.add_(0.1 * torch.rand(parameter.shape, generator=noise))
        ids, labels = self._batch(net)
        for genotype in self._genotypes(net)[:4]:
            net.model.zero_grad()
            net.losses(ids, labels, genotype).mean().backward()
            before = net.losses(ids, labels, genotype).detach()
            kept, outside, inside = [], 0, 0
            for parameter in net.model.parameters():
                kept.append(parameter.detach().clone())
                grad = parameter.grad
                unused = torch.ones_like(parameter) if grad is None else (grad == 0).to(grad)
                outside += int(unused.sum())
                inside += int((1 - unused).sum())
                parameter.data.add_(unused)
            after = net.losses(ids, labels, genotype).detach()
            for parameter, value in zip(net.model.parameters(), kept, strict=True):
                parameter.data.copy_(value)
            assert inside > 0, "no gradient reaches the weights"
            if genotype == tuple(net.space.smallest.tolist()):
                shipped = sum(p.numel() for p in net.extract(genotype).parameters())
                whole = sum(p.numel() for p in net.model.parameters())
                assert outside > 0 or shipped == whole, "the smallest subnet trains all weights"
            self._close(after, before)

    def test_gradients_of_a_step_are_the_sum(self) -> None:
        """Subnets that share embeddings get the gradients that each has alone."""
        torch = pytest.importorskip("torch")
        accumulate = pytest.importorskip("nastool_supernets.training.gradients")
        rules = pytest.importorskip("nastool_supernets.training.rules")
        net = self._net()
        ids, labels = self._batch(net)
        genotypes = self._genotypes(net)[:3]
        net.model.zero_grad()
        for genotype in genotypes:
            net.losses(ids, labels, genotype).mean().backward()
        named = dict(net.model.named_parameters())
        expected = {n: p.grad.clone() for n, p in named.items() if p.grad is not None}
        net.model.zero_grad()
        accumulate.accumulate_gradients(
            net, ids.numpy(), labels.numpy(), [rules.Subnet("one", g) for g in genotypes], 2
        )
        for name, parameter in named.items():
            if name in expected:
                grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                self._close(grad, expected[name])

    def test_a_resumed_training_is_never_stopped(self, tmp_path: Path) -> None:
        """Nothing that training depends on lies outside of weights, optimizer and step."""
        training = pytest.importorskip("nastool_supernets.training.pretraining")
        config = pytest.importorskip("nastool_supernets.training.config").PretrainingConfig(
            steps=4, batch_size=2, checkpoint_every=2, dtype="float32", peak_flops=1e9,
            learning_rate=1e-2,
        )  # fmt: skip

        class Cut(Exception):  # noqa: N818 - a power cut is no error
            pass

        def cut(report: Any) -> None:
            if report.step == 3:
                raise Cut

        def train(name: str, **options: Any) -> Any:
            net = self.make()
            training.pretrain(
                net, self._blocks(net, 8), self._task(net), config, tmp_path / name, trackers=[],
                **options,
            )  # fmt: skip
            return net

        whole = train("whole")
        with pytest.raises(Cut):
            train("cut", on_step=cut)
        resumed = train("cut")
        started = self.make().model
        moved = 0
        for name, parameter in whole.model.named_parameters():
            assert bool((resumed.model.get_parameter(name) == parameter).all()), name
            moved += int((parameter != started.get_parameter(name)).sum())
        assert moved > 0, "training changed no weight"

    # ----------------------------------------------------------------------------------------------
    # How it is measured and kept

    def test_shared_prefixes_are_whole_passes(self) -> None:
        """However many are measured at once, each gets the number that it has alone."""
        measuring = pytest.importorskip("nastool_supernets.measuring.perplexities")
        net = self._net()
        ids, labels = self._batch(net)
        genotypes = self._genotypes(net)
        arrays = ids.numpy(), labels.numpy()
        together = measuring.perplexities(net, *arrays, genotypes, batch_size=3)
        for genotype, found in zip(genotypes, together, strict=True):
            losses = net.losses(ids, labels, genotype).detach()
            assert found == pytest.approx(float(losses.mean().exp()), rel=1e-7), genotype
            assert found == measuring.perplexities(net, *arrays, [genotype], batch_size=3)[0]

    def test_what_is_saved_is_found_again(self, tmp_path: Path) -> None:
        """A folder is loaded by the ``model_type`` in its ``config.json``."""
        saved = pytest.importorskip("nastool_supernets.saved")
        net = self.make()
        net.model.eval()
        saved.save_model(net.model, tmp_path)
        again = saved.load_supernet(tmp_path)
        assert type(again) is type(net)
        assert again.space.fingerprint == net.space.fingerprint
        ids, labels = self._batch(net)
        genotype = tuple(net.space.largest.tolist())
        found, expected = (n.losses(ids, labels, genotype).detach() for n in (again, net))
        assert bool((found == expected).all())

    def test_genotypes_stand_for_architectures(self) -> None:
        """Equivalent genotypes compute the same, others do not; what is read is what was meant."""
        net = self._net()
        ids, labels = self._batch(net)
        seen: dict[tuple[float, ...], tuple[int, ...]] = {}
        for genotype in self._genotypes(net):
            assert net.genotype(net.architecture(genotype)) == genotype
            losses = tuple(net.losses(ids, labels, genotype).tolist())
            assert losses not in seen, f"{genotype} and {seen[losses]} compute the same"
            seen[losses] = genotype
        for row in net.space.sample(5, np.random.default_rng(2)):
            canonical = tuple(net.space.canonicalize(row[None])[0].tolist())
            self._close(
                net.losses(ids, labels, tuple(row.tolist())).detach(),
                net.losses(ids, labels, canonical).detach(),
            )

    # ----------------------------------------------------------------------------------------------

    def _inputs(self, net: Any) -> tuple[dict[str, Any], Any]:
        """Tokens with padding at the end of the last text, and where there is none."""
        inputs = _inputs(pytest.importorskip("torch").as_tensor(self._blocks(net)))
        inputs["attention_mask"][-1, _LENGTH - 3 :] = 0
        return inputs, inputs["attention_mask"].bool()

    def _logits(self, net: Any, inputs: Any, genotype: tuple[int, ...]) -> Any:
        return net.logits(inputs, genotype).detach()


def _inputs(ids: Any) -> dict[str, Any]:
    return {"input_ids": ids, "attention_mask": ids * 0 + 1}


def _run(model: Any, inputs: Any) -> Any:
    return model.eval()(**inputs).logits.detach()
