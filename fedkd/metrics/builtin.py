"""The metrics that come with fedkd."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

METRICS = {
    "accuracy": (
        "classification:Accuracy",
        "Share of test images classified rightly; always measured.",
    ),
    "loss": (
        "classification:Loss",
        "Mean cross-entropy, in nats.",
    ),
    "macro_f1": (
        "classification:MacroF1",
        "F1 score by class, averaged over the classes.",
    ),
    "balanced_accuracy": (
        "classification:BalancedAccuracy",
        "Accuracy by class, averaged over the classes.",
    ),
    "class_accuracy": (
        "classification:ClassAccuracy",
        "Accuracy of each class; in metrics.jsonl only.",
    ),
    "ece": (
        "classification:CalibrationError",
        "Expected calibration error: confidence against accuracy.",
    ),
    "worst_client": (
        "fairness:WorstClient",
        "Accuracy of the worst client.",
    ),
    "worst_decile": (
        "fairness:WorstDecile",
        "Mean accuracy of the worst tenth of the clients.",
    ),
    "client_spread": (
        "fairness:ClientSpread",
        "Standard deviation of the clients' accuracies.",
    ),
    "trained_accuracy": (
        "fairness:TrainedAccuracy",
        "Accuracy of the models as clients trained them, weighted by n_k.",
    ),
    "rounds_to": (
        "targets:RoundsTo",
        "Rounds until a target is reached.",
    ),
    "bytes_to": (
        "targets:BytesTo",
        "Bytes sent until a target is reached.",
    ),
    "accuracy_after": (
        "targets:AccuracyAfter",
        "Accuracy after a number of rounds.",
    ),
}


@hookimpl
def fedkd_register_metrics(register: Register) -> None:
    """Register the built-in metrics."""
    for name, (target, summary) in METRICS.items():
        register(name, f"fedkd.metrics.{target}", summary=summary)
