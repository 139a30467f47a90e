"""Packaged mixes: from 2 to 5 families, each made light enough for a CPU.

Client i has entry i mod n. One training step of 64 images of 1x28x28 and 10 classes, on
one thread of a 2-core virtual machine that other work shared (medians of five steps of
SGD with momentum, torch 2.15):

========= ================================== ========== =====
family    options                            parameters step
========= ================================== ========== =====
cnn       none                                   60,986 19 ms
resnet18  width 1/8                             176,258 53 ms
vgg11     width 1/4                             579,498 29 ms
mobilenet width 1/8                              47,136 60 ms
vit       dim 64, depth 3, heads 2              155,082 55 ms
========= ================================== ========== =====
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Mix = tuple[Mapping[str, Any], ...]
"""Models, each by its registered ``name`` and its options."""

CNN: Mapping[str, Any] = {"name": "cnn"}
RESNET: Mapping[str, Any] = {"name": "resnet18", "width": 0.125}
VGG: Mapping[str, Any] = {"name": "vgg11", "width": 0.25}
MOBILENET: Mapping[str, Any] = {"name": "mobilenet", "width": 0.125}
VIT: Mapping[str, Any] = {"name": "vit", "dim": 64, "depth": 3, "heads": 2}

MIX_2: Mix = (CNN, RESNET)
MIX_3: Mix = (*MIX_2, VGG)
MIX_4: Mix = (*MIX_3, MOBILENET)
MIX_5: Mix = (*MIX_4, VIT)
