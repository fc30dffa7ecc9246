"""The data sets whose content is known beforehand: shapes, counts, digests, where from."""

from dataclasses import dataclass

from bnrepro.errors import ConfigError


@dataclass(frozen=True)
class Known:
    """What a data set must be, whatever copy of it is read.

    shape: (C, H, W) of every image
    train, test, validation: numbers of images; validation is the default share taken from train
    fingerprint: SHA-256 (hex) of the canonical arrays, see `raw.Raw.fingerprint`
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: int
    test: int
    validation: int
    fingerprint: str


_DIGITS = tuple("0123456789")
# In alphabetical order, which is also that of the original labels.
_OBJECTS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_MNIST = Known(
    name="mnist",
    classes=_DIGITS,
    shape=(1, 28, 28),
    train=60_000,
    test=10_000,
    validation=5_000,
    fingerprint="9a6d1a739854e055813f5c45b627baf0ce88dedf6be70d04cfc5f84950eaa850",
)
_CIFAR10 = Known(
    name="cifar10",
    classes=_OBJECTS,
    shape=(3, 32, 32),
    train=50_000,
    test=10_000,
    validation=5_000,
    fingerprint="4fb0babe441a5c308293c63c7c5ab79019e6722e61f6862d993ae11cdbb4965e",
)
_DIGITS_BUNDLE = Known(  # the 1,797 images come without a test split: it is cut from them
    name="digits",
    classes=_DIGITS,
    shape=(1, 8, 8),
    train=1_497,
    test=300,
    validation=200,
    fingerprint="10bbfc606da06a9b63d5e6baa146f44e5b1cafecfbaee7b709d54afda0e4ff45",
)

KNOWN = {known.name: known for known in (_MNIST, _CIFAR10, _DIGITS_BUNDLE)}
NAMES = (*KNOWN, "folder")
"""The names that `load` knows."""

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = {  # of the files as unpacked; they are published as NAME.gz
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

# Torchvision's layout: where, below a root, the published files lie unpacked.
FOLDERS = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-py"}
FILES = {
    "mnist": tuple(MNIST_SHA256),
    "cifar10": (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
}


def require_name(name: str) -> None:
    """ConfigError unless `load` knows a data set of that name."""
    if name not in NAMES:
        raise ConfigError(f"unknown data set {name!r} (dataset): choose one of {', '.join(NAMES)}")
