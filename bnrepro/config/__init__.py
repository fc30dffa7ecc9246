"""Everything about a run's configuration: its schema, its options, its limits, its identity.

What needs Hydra lies in `compose`, `complete`, `overrides` and `hydra`, and is imported from there.
"""

from bnrepro.config.check import first_line
from bnrepro.config.convert import flat, from_dict, plain, shown, to_dict, to_yaml
from bnrepro.config.identity import (
    RESULTS_NUMBER,
    differences,
    identifying_settings,
    other_results,
    run_id,
)
from bnrepro.config.options import brought_by, choices, conf_dir, maker, option, options_of, unknown
from bnrepro.config.schema import (
    FINGERPRINT,
    MISSING,
    OPTIONS,
    STUDIES,
    Activation,
    Adagrad,
    Adam,
    BatchNorm,
    Cifar10,
    Config,
    ConstantSchedule,
    Dataset,
    Decayed,
    DecaySchedule,
    DetachedNorm,
    Device,
    DynamicTanh,
    Entry,
    Folder,
    GroupNorm,
    Inception,
    Init,
    Inputs,
    L1Norm,
    LayerNorm,
    LinfNorm,
    Mlp,
    Mnist,
    Model,
    NoisyNorm,
    NoNorm,
    Norm,
    Optimizer,
    OwnImages,
    Placement,
    Sgd,
    ShiftedInit,
    Shuffling,
    TorchNorm,
    Trained,
    WhiteningNorm,
)

__all__ = [
    "FINGERPRINT", "MISSING", "OPTIONS", "RESULTS_NUMBER", "STUDIES", "Activation", "Adagrad",
    "Adam", "BatchNorm", "Cifar10", "Config", "ConstantSchedule", "Dataset", "DecaySchedule",
    "Decayed", "DetachedNorm", "Device", "DynamicTanh", "Entry", "Folder", "GroupNorm", "Inception",
    "Init", "Inputs", "L1Norm", "LayerNorm", "LinfNorm", "Mlp", "Mnist", "Model", "NoNorm",
    "NoisyNorm", "Norm", "Optimizer", "OwnImages", "Placement", "Sgd", "ShiftedInit", "Shuffling",
    "TorchNorm", "Trained", "WhiteningNorm", "brought_by", "choices", "conf_dir", "differences",
    "first_line", "flat", "from_dict", "identifying_settings", "maker", "option", "options_of",
    "other_results", "plain", "run_id", "shown", "to_dict", "to_yaml", "unknown",
]  # fmt: skip
