"""Data sets: read, checked, put into one order, and held as tensors in memory.

Importing this package is cheap: torchvision and scikit-learn are imported only by the
functions that need them.
"""

from bnrepro.data.copies import Entry, fetch, import_copy, inventory, verify
from bnrepro.data.dataset import Dataset, Split, batches, load, permutation, unseen_batches
from bnrepro.data.inputs import INPUTS
from bnrepro.data.known import NAMES
from bnrepro.data.variations import Variations, variations

__all__ = [
    "INPUTS",
    "NAMES",
    "Dataset",
    "Entry",
    "Split",
    "Variations",
    "batches",
    "fetch",
    "import_copy",
    "inventory",
    "load",
    "permutation",
    "unseen_batches",
    "variations",
    "verify",
]
