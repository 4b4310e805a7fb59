"""From history to a candidate: training sets, labels, temporal split, evaluation, gates, tracking."""

from mainspring.training.dataset import build, sources_of
from mainspring.training.labels import held_until, outcomes
from mainspring.training.served import Served
from mainspring.training.tracking import Run, Tracking
from mainspring.training.train import Candidate, Tested, train
from mainspring.training.trainingset import Counts, DatasetMeta, SourceState, TrainingSet, load, relabelled, save

__all__ = [
    "Candidate",
    "Counts",
    "DatasetMeta",
    "Run",
    "Served",
    "SourceState",
    "Tested",
    "Tracking",
    "TrainingSet",
    "build",
    "held_until",
    "load",
    "outcomes",
    "relabelled",
    "save",
    "sources_of",
    "train",
]
