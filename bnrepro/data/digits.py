"""scikit-learn's 8×8 digits, for a first try and for tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bnrepro.data.arrays import Images, Known, Raw, in_order
from bnrepro.data.source import Copy, Source, divided_by


class Digits(Source):
    """The bundled digits, of values 0 to 16."""

    known = Known(  # the 1,797 images come without a test split: it is cut from them
        name="digits",
        classes=tuple("0123456789"),
        shape=(1, 8, 8),
        train=1_497,
        test=300,
        validation=200,
        fingerprint="10bbfc606da06a9b63d5e6baa146f44e5b1cafecfbaee7b709d54afda0e4ff45",
    )

    def copies(self) -> list[Copy]:
        """The one within scikit-learn."""
        return [Copy("bundled", Path("scikit-learn"), self.read)]

    def read(self) -> Raw:
        """The images; the last of the canonical order are the test images."""
        import sklearn
        from sklearn.datasets import load_digits

        known = self.known
        bundle = load_digits()
        pixels = bundle.images.astype(np.uint8).reshape(-1, *known.shape)
        whole = in_order(Images(pixels, bundle.target.astype(np.int64)))
        raw = Raw(whole[: -known.test], whole[-known.test :], known.classes)
        return known.check(raw, Path(sklearn.__file__).parent)

    def scaling(self, train: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
        """Values from 0 to 1."""
        return divided_by(16.0)
