"""The strategies that come with fedkd: a module or a package each, with both halves."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

STRATEGIES = {
    "fedavg": (
        "fedavg:FedAvg",
        "Average of the clients' weights by number of samples.",
    ),
    "local": ("local:Local", "Reference: every client trains alone."),
    "ensemble": (
        "ensemble:Ensemble",
        "Reference: the mean logits of models that clients trained alone.",
    ),
    "central": ("central:Central", "Reference: training on all data in one place."),
    "fedprox": (
        "fedprox:FedProx",
        "FedAvg with a proximal term that holds clients near the global model.",
    ),
    "fedbn": (
        "fedbn:FedBN",
        "FedAvg that leaves batch normalisation with each client.",
    ),
    "fedrs": (
        "fedrs:FedRS",
        "FedAvg with a restricted softmax for classes a client does not have.",
    ),
    "scaffold": (
        "drift.scaffold:Scaffold",
        "Control variates take the clients' drift out of their gradients.",
    ),
    "fednova": (
        "drift.fednova:FedNova",
        "FedAvg of moves that are normalised by the clients' work.",
    ),
    "fedavgm": ("drift.fedopt:FEDAVGM", "FedAvg with momentum at the server."),
    "fedadam": ("drift.fedopt:FEDADAM", "The clients' mean move, through Adam."),
    "fedyogi": ("drift.fedopt:FEDYOGI", "The clients' mean move, through Yogi."),
    "fedadagrad": (
        "drift.fedopt:FEDADAGRAD",
        "The clients' mean move, through Adagrad.",
    ),
    "feddyn": (
        "drift.feddyn:FedDyn",
        "A dynamic regulariser makes the clients' optima meet.",
    ),
    "fedexp": (
        "drift.fedexp:FedExP",
        "The server goes further than the mean, the more clients disagree.",
    ),
    "fedlc": (
        "drift.fedlc:FedLC",
        "Logits are calibrated by how often a client has a class.",
    ),
    "fedper": (
        "personal.fedper:FedPer",
        "FedAvg that leaves the upper layers with each client.",
    ),
    "lgfedavg": (
        "personal.lgfedavg:LgFedAvg",
        "FedAvg of the upper layers; those below stay with each client.",
    ),
    "fedrep": (
        "personal.fedrep:FedRep",
        "A body for all; each client trains its head first, then the body. Lightened.",
    ),
    "fedrep-paper": (
        "personal.fedrep:FEDREP_PAPER",
        "FedRep with ten times as much work on the head as on the body.",
    ),
    "ditto": (
        "personal.ditto:Ditto",
        "FedAvg, and beside it each client's own model, held near the global one.",
    ),
    "apfl": (
        "personal.apfl:APFL",
        "Clients predict with a mixture of own and global weights, whose share is learnt.",
    ),
    "fedala": (
        "personal.fedala:FedALA",
        "Clients learn which upper weights of the global model to start from.",
    ),
    "moon": (
        "drift.moon:MOON",
        "Clients' features stay near the global model's, away from their last.",
    ),
    "fedntd": (
        "drift.fedntd:FedNTD",
        "Clients keep what the global model says of classes other than the label.",
    ),
    "fedsam": (
        "drift.fedsam:FedSAM",
        "Clients take the gradient where their loss is worst nearby.",
    ),
    "feddistill": (
        "mixed.feddistill:FedDistill",
        "Clients of any models exchange the mean output of each class.",
    ),
    "feddistill-htfllib": (
        "mixed.feddistill:HTFLLIB",
        "FedDistill as HtFLlib computes it, with mean logits of all clients.",
    ),
    "fedproto": (
        "mixed.fedproto:FedProto",
        "Clients learn towards the mean features of each class, and predict by them.",
    ),
    "fedproto-code": (
        "mixed.fedproto:CODE",
        "FedProto as its released code runs it: unweighted means during training.",
    ),
    "feddf": (
        "mixed.feddf:FedDF",
        "Averages by architecture, taught by the ensemble of all on public images.",
    ),
    "feddf-published": (
        "mixed.feddf:PUBLISHED",
        "FedDF with the server's amounts of the released code.",
    ),
    "fedgh": (
        "mixed.fedgh:FedGH",
        "A shared head, which the server trains on class means of features.",
    ),
    "fedgh-htfllib": (
        "mixed.fedgh:HTFLLIB",
        "FedGH with the server's amounts of HtFLlib.",
    ),
    "fedtgp": (
        "mixed.fedtgp:FedTGP",
        "FedProto with prototypes that the server trains, a margin apart.",
    ),
    "fml": (
        "mixed.fml:FML",
        "Each client's own model and a shared one learn from each other.",
    ),
    "fedkd-wu": (
        "mixed.fedkd_wu:FedKD",
        "FedKD of Wu et al.: own mentors, a shared mentee, compressed updates.",
    ),
    "fedmd": (
        "mixed.fedmd:FedMD",
        "Clients of any models digest their mean scores on public images.",
    ),
    "fedet": (
        "mixed.fedet:FedET",
        "Small models of clients teach a larger one at the server on public images.",
    ),
    "ccvr": (
        "ccvr:CCVR",
        "FedAvg whose last layer is trained anew on Gaussian features by class.",
    ),
    "sda-fl": (
        "sda_fl:SDAFL",
        "Clients share synthetic images, which the server labels and all train on.",
    ),
    "heterofl": (
        "heterofl:HeteroFL",
        "Clients hold the first channels; coordinates are averaged by holder.",
    ),
    "fedrolex": (
        "fedrolex:FedRolex",
        "HeteroFL with a window of channels that rolls on with every round.",
    ),
    "fjord": (
        "fjord:FjORD",
        "Clients train prefixes of the channels, drawn in every step.",
    ),
    "mosaic": (
        "mosaic:Mosaic",
        "Local generators, class experts and a meta model distilled into one.",
    ),
    "mosaic-paper": (
        "mosaic:MOSAIC_PAPER",
        "Mosaic as described: the local model judges, four losses, a transformer.",
    ),
    "mosaic-code": ("mosaic:MOSAIC_CODE", "Mosaic as its released code runs it."),
    "mosaic-code-cifar100": (
        "mosaic:MOSAIC_CODE_CIFAR100",
        "Mosaic as its released code runs it on CIFAR-100.",
    ),
    "mosaic-origin": (
        "mosaic:MOSAIC_ORIGIN",
        "Mosaic with the origin prior, an extension of this project.",
    ),
    "mosaic-features": (
        "mosaic.features:MosaicFeatures",
        "Mosaic with generators of features, an extension of this project.",
    ),
    "dense": (
        "dense:Dense",
        "One upload of models; images that they know; distillation. Lightened.",
    ),
    "dense-paper": (
        "dense:DENSE_PAPER",
        "DENSE with the paper's losses, in its program's loop and amounts.",
    ),
    "dense-published": (
        "dense:DENSE_PUBLISHED",
        "DENSE with the amounts of its README, for a GPU.",
    ),
    "dense-code": ("dense:DENSE_CODE", "DENSE as its released code runs it."),
    "coboosting": (
        "coboosting:CoBoosting",
        "DENSE with harder images and learnt weights of its ensemble. Lightened.",
    ),
    "coboosting-published": (
        "coboosting:COBOOSTING_PUBLISHED",
        "Co-Boosting with the amounts of its released code, for a GPU.",
    ),
    "coboosting-code": (
        "coboosting:COBOOSTING_CODE",
        "Co-Boosting as its released code runs it.",
    ),
    "fedftg": (
        "fedftg:FedFTG",
        "FedAvg whose average is fine-tuned on generated hard images; lightened.",
    ),
    "fedftg-paper": (
        "fedftg:FEDFTG_PAPER",
        "FedFTG with the paper's losses and the amounts of its released code.",
    ),
    "fedftg-published": (
        "fedftg:FEDFTG_PUBLISHED",
        "FedFTG in our reading with published amounts.",
    ),
    "fedftg-official": (
        "fedftg:FEDFTG_OFFICIAL",
        "FedFTG as its released code computes it.",
    ),
    "fedftg-lightfed": (
        "fedftg:FEDFTG_LIGHTFED",
        "FedFTG as the code of DFDG computes it.",
    ),
    "dfrd": (
        "dfrd:DFRD",
        "A conditional generator distils the class-weighted ensemble; lightened.",
    ),
    "dfrd-published": (
        "dfrd:DFRD_PUBLISHED",
        "DFRD with the paper's losses and published amounts.",
    ),
    "dfrd-dfdg": (
        "dfrd:DFRD_DFDG",
        "The objective of DFRD as the code of DFDG computes it.",
    ),
    "fedgen": (
        "fedgen:FedGen",
        "FedAvg whose clients learn from a generator of features. Lightened.",
    ),
    "fedgen-published": (
        "fedgen:FEDGEN_PUBLISHED",
        "FedGen with its published weights and amounts for MNIST.",
    ),
    "fedgen-code": ("fedgen:FEDGEN_CODE", "FedGen as its released code runs it."),
}


@hookimpl
def fedkd_register_strategies(register: Register) -> None:
    """Register the built-in strategies."""
    for name, (target, summary) in STRATEGIES.items():
        register(name, f"fedkd.algorithms.{target}", summary=summary)
