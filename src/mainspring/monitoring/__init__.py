"""Watching a model: drift of its inputs, performance on mature labels. Knows nothing of HTTP or storage."""

from mainspring.monitoring.detector import Detector, average_e, calibrated_e
from mainspring.monitoring.drift import DriftReport, FeatureDrift, judge_window, window_test
from mainspring.monitoring.performance import (
    Advantage,
    CalibrationBin,
    Interval,
    Metrics,
    Worse,
    advantage,
    advantage_test,
    calibration,
    daily_metrics,
    difference_interval,
    metrics,
    roc_auc,
    slice_metrics,
)
from mainspring.monitoring.references import Reference, reference

__all__ = [
    "Advantage",
    "CalibrationBin",
    "Detector",
    "DriftReport",
    "FeatureDrift",
    "Interval",
    "Metrics",
    "Reference",
    "Worse",
    "advantage",
    "advantage_test",
    "average_e",
    "calibrated_e",
    "calibration",
    "daily_metrics",
    "difference_interval",
    "judge_window",
    "metrics",
    "reference",
    "roc_auc",
    "slice_metrics",
    "window_test",
]
