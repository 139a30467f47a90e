"""What replays of methods with prototypes share, image by image, in the small world."""

import torch
import torch.nn.functional as F
from replaying import IMAGES, SHARDS, shown


def features_by_class(model, k):
    """Return the mean features of a client's images by class, in eval mode."""
    x, y = shown(IMAGES.x_train[SHARDS[k]]), IMAGES.y_train[SHARDS[k]]
    with torch.no_grad():
        features = model.eval().features(x)
    return {c: features[y == c].mean(0) for c in sorted(set(y.tolist()))}


def towards(prototypes, lam, seen=None):
    """Return FedProto's objective, image by image."""

    def objective(model, x, y):
        features = model.features(x)
        term = 0.0
        for row, c in zip(features, y.tolist(), strict=True):
            if seen is not None:
                seen.setdefault(c, []).append(row.detach())
            if c in prototypes:
                squares = (row - prototypes[c]) ** 2
                term = term + lam * squares.sum() / features.numel()
        return F.cross_entropy(model.head(features), y), term

    return objective


def accuracy_by_prototypes(model, prototypes, positions):
    x, y = shown(IMAGES.x_test[list(positions)]), IMAGES.y_test[list(positions)]
    with torch.no_grad():
        features = model.eval().features(x)
    right = 0
    for row, c in zip(features, y.tolist(), strict=True):
        apart = {j: float((row - p).norm()) for j, p in prototypes.items()}
        right += min(apart, key=apart.get) == c
    return 100 * right / len(y)
