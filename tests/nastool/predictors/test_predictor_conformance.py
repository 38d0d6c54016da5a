"""Our own kinds of predictors keep what the suite for strangers asks of theirs."""

from nastool.predictors import create_predictor
from nastool.predictors.transfer import Recalibrated
from nastool.testing import PredictorConformance


class TestLinear(PredictorConformance):
    def make(self):
        return create_predictor("linear")


class TestAdditive(PredictorConformance):
    # Where the logarithm adds up, a constant more is another function.
    moved = False

    def make(self):
        return create_predictor("additive")


class TestPairwise(PredictorConformance):
    def make(self):
        return create_predictor("pairwise")


class TestGaussianProcess(PredictorConformance):
    def make(self):
        return create_predictor("gaussian-process")


class TestXGBoost(PredictorConformance):
    def make(self):
        return create_predictor("xgboost")


class TestEnsemble(PredictorConformance):
    def make(self):
        return create_predictor("ensemble")


class TestTransfer(PredictorConformance):
    def make(self):
        source = create_predictor("linear")
        features, targets = self.table(60, 11)
        source.fit(features, 0.3 * targets + features[:, 0], genes=4)
        return Recalibrated((source,))
