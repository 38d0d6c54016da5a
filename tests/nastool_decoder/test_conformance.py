"""Decoders keep what a supernet has to keep, whatever their architecture."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.testing import SupernetConformance  # noqa: E402
from tests.nastool_decoder.conftest import checkpoint, make_net  # noqa: E402


class TestLlama(SupernetConformance):
    kind = "llama"
    by = "activation"
    # The norms of transformers compute in single precision.
    tolerance = 1e-5

    def make(self):
        return make_net(checkpoint(self.kind), self.by, ffn="8,16,24")

    def reference(self, net):
        return checkpoint(self.kind).double()


class TestQwen2(TestLlama):
    kind = "qwen2"
    by = "loss"


class TestQwen3(TestLlama):
    kind = "qwen3"
