"""Data sets: read, checked, put into one order, and held as tensors in memory.

Importing this package is cheap: torchvision and scikit-learn are imported only by the
functions that need them.
"""

from bnrepro.data.arrays import Images, Known, Raw
from bnrepro.data.augment import Augmentation, augmentation
from bnrepro.data.dataset import Dataset, Split, batches, load, permutation, unseen_batches
from bnrepro.data.manage import (
    Inventory,
    fetch,
    fingerprint,
    import_copy,
    inventory,
    known,
    published,
    verify,
)
from bnrepro.data.source import Source

__all__ = [
    "Augmentation", "Dataset", "Images", "Inventory", "Known", "Raw", "Source", "Split",
    "augmentation", "batches", "fetch", "fingerprint", "import_copy", "inventory", "known", "load",
    "permutation", "published", "unseen_batches", "verify",
]  # fmt: skip
