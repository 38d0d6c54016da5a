"""Predictors: measured quantities as functions of an architecture, learned from tables."""

from nastool.predictors.base import (
    Card,
    GridForm,
    Prediction,
    Predictor,
    create_predictor,
    known_predictors,
    load_predictor,
    save_predictor,
)
from nastool.predictors.evaluation import Scores, score
from nastool.predictors.trees import GridEnsemble, TreeEnsemble

__all__ = [
    "Card",
    "GridEnsemble",
    "GridForm",
    "Prediction",
    "Predictor",
    "Scores",
    "TreeEnsemble",
    "create_predictor",
    "known_predictors",
    "load_predictor",
    "save_predictor",
    "score",
]
