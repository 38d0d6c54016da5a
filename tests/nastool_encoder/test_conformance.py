"""An encoder keeps what a supernet has to keep, whatever its architecture."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.testing import SupernetConformance  # noqa: E402
from tests.nastool_encoder.conftest import checkpoint, make_net  # noqa: E402


class TestBert(SupernetConformance):
    kind = "bert"

    def make(self):
        return make_net(checkpoint(self.kind), "activation", head="2,4", ffn="8,24")

    def reference(self, net):
        return checkpoint(self.kind).double()


class TestRoberta(TestBert):
    kind = "roberta"


class TestDistilBert(TestBert):
    kind = "distilbert"


class TestBertWithAHeadOfItsOwn(SupernetConformance):
    def make(self):
        model = checkpoint(tie_word_embeddings=False, hidden_act="gelu_new", type_vocab_size=1)
        return make_net(model, "loss", head="1,3,4", ffn="24")

    def reference(self, net):
        model = checkpoint(tie_word_embeddings=False, hidden_act="gelu_new", type_vocab_size=1)
        return model.double()
