"""Data sets: what is read, in which order, how it is checked, and how copies are taken over.

Import and the readers are tried on miniatures of the data sets: the same formats, with a few
dozen random images, and with the constants of each set to what those must give.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import pickle
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load
from PIL import Image

from bnrepro.cli import main
from bnrepro.data import (
    Dataset,
    archives,
    digits,
    fetch,
    image_tree,
    import_copy,
    inventory,
    permutation,
    scaling,
    verify,
)
from bnrepro.data import cifar10 as cifar10s
from bnrepro.data import mnist as mnists
from bnrepro.errors import ConfigError, DataError


@dataclass
class Mini:
    """A small data set in the place of a real one: (pixels, label) of each image."""

    name: str
    classes: tuple[str, ...]
    train: list[tuple[np.ndarray, int]]
    test: list[tuple[np.ndarray, int]]

    def in_order(self, part: str) -> list[tuple[np.ndarray, int]]:
        return sorted(
            getattr(self, part), key=lambda x: (hashlib.sha256(x[0].tobytes()).hexdigest(), x[1])
        )

    def fingerprint(self) -> str:
        """The definition once more, written down the slow way."""
        shape = list(self.train[0][0].shape)
        digest = hashlib.sha256(
            json.dumps(
                {
                    "classes": self.classes,
                    "train": [len(self.train), *shape],
                    "test": [len(self.test), *shape],
                }
            ).encode()
        )
        for part in ("train", "test"):
            ordered = self.in_order(part)
            for pixels, _ in ordered:
                digest.update(pixels.tobytes())
            for _, label in ordered:
                digest.update(label.to_bytes(8, "little"))
        return digest.hexdigest()

    def files(self) -> dict[str, bytes]:
        """The class folders: PNGs by path, numbered through in the order of the lists."""
        return {
            f"{part}/{self.classes[label]}/{i:04}.png": png(pixels)
            for part in ("train", "test")
            for i, (pixels, label) in enumerate(getattr(self, part))
        }


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 pixels (C, H, W)."""
    stream = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(
        stream, "png"
    )
    return stream.getvalue()


def random_images(seed: int, n: int, shape: tuple[int, ...]) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, shape, dtype=np.uint8), i % 10) for i in range(n)]


def mini(name: str, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """Put a small data set into the place of a real one."""
    source = {"mnist": mnists.Mnist, "cifar10": cifar10s.Cifar10}[name]
    real = source.known
    made = Mini(
        name, real.classes, random_images(1, 40, real.shape), random_images(2, 20, real.shape)
    )
    monkeypatch.setattr(
        source,
        "known",
        dataclasses.replace(real, train=40, test=20, validation=10, fingerprint=made.fingerprint()),
    )
    return made


@pytest.fixture
def mini_mnist(monkeypatch: pytest.MonkeyPatch) -> Mini:
    made = mini("mnist", monkeypatch)
    for name, content in idx_files(made).items():
        monkeypatch.setitem(mnists.SHA256, name, hashlib.sha256(content).hexdigest())
    return made


@pytest.fixture
def mini_cifar10(monkeypatch: pytest.MonkeyPatch) -> Mini:
    from torchvision.datasets import CIFAR10

    made = mini("cifar10", monkeypatch)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in batches(made).items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[n, md5[n]] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    return made


def idx_files(data: Mini) -> dict[str, bytes]:
    """MNIST's own format."""
    files = {}
    for part, images in (("train", data.train), ("t10k", data.test)):
        pixels = b"".join(p.tobytes() for p, _ in images)
        head = b"".join(k.to_bytes(4, "big") for k in (0x803, len(images), 28, 28))
        files[f"{part}-images-idx3-ubyte"] = head + pixels
        head = b"".join(k.to_bytes(4, "big") for k in (0x801, len(images)))
        files[f"{part}-labels-idx1-ubyte"] = head + bytes(label for _, label in images)
    return files


def batches(data: Mini) -> dict[str, bytes]:
    """CIFAR-10's own format: pickles, with a dtype as the NumPy of that time described it."""
    size = len(data.train) // 5
    parts = {f"data_batch_{i + 1}": data.train[i * size : (i + 1) * size] for i in range(5)}
    files = {}
    for name, images in {**parts, "test_batch": data.test}.items():
        rows = np.stack([pixels.ravel() for pixels, _ in images])
        content = pickle.dumps({"data": rows, "labels": [y for _, y in images]}, protocol=2)
        assert content.count(b"\x89\x88\x87") == 1  # (False, True): align and copy
        files[name] = content.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    files["batches.meta"] = pickle.dumps({"label_names": list(data.classes)}, protocol=2)
    return files


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_keras(path: Path, data: Mini, **others: np.ndarray) -> Path:
    """Keras' copy of MNIST: images without channels, labels as bytes."""
    path.parent.mkdir(exist_ok=True)
    parts = {"train": data.train, "test": data.test}
    arrays = {f"x_{part}": np.stack([p[0] for p, _ in images]) for part, images in parts.items()}
    arrays |= {f"y_{part}": np.array([y for _, y in images], np.uint8)
               for part, images in parts.items()}  # fmt: skip
    np.savez_compressed(path, **{**arrays, **others})
    return path


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def assert_same(one: Dataset, two: Dataset) -> None:
    assert one.fingerprint == two.fingerprint
    assert one.classes == two.classes
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(one, part).images, getattr(two, part).images)
        assert torch.equal(getattr(one, part).labels, getattr(two, part).labels)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- the real data


@pytest.fixture(scope="module")
def mnist(real_data: Path) -> Dataset:
    return load("mnist", real_data)


def test_mnist_is_whole(mnist: Dataset) -> None:
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [55_000, 5_000, 10_000]
    assert mnist.image_shape == (1, 28, 28)
    assert mnist.classes == tuple("0123456789")
    assert mnist.fingerprint == mnists.Mnist.known.fingerprint
    # the published counts of the digits 0 to 9
    train = mnist.train.labels.bincount() + mnist.validation.labels.bincount()
    assert train.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.test.labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_mnist_is_binary_as_in_the_paper(mnist: Dataset) -> None:
    for split in (mnist.train, mnist.validation, mnist.test):
        assert split.images.dtype == torch.float32
        white = (split.images > 0.5).float()
        assert torch.equal(split.images, white)
        assert 0.05 < white.mean() < 0.3


def test_every_published_image_is_in_one_split(mnist: Dataset, real_data: Path) -> None:
    """The images of the raw files, as a multiset, are those of the three splits together."""

    def digests(images: np.ndarray) -> list[bytes]:
        return sorted(hashlib.sha256(image).digest() for image in np.packbits(images, axis=1))

    for part, splits in (("train", (mnist.train, mnist.validation)), ("t10k", (mnist.test,))):
        raw = (real_data / "MNIST" / "raw" / f"{part}-images-idx3-ubyte").read_bytes()
        published = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784) > 127
        ours = np.concatenate([s.images.numpy().reshape(-1, 784) > 0 for s in splits])
        assert digests(published) == digests(ours)


def test_mnist_has_the_published_mean_and_classes(mnist: Dataset) -> None:
    """Labels belong to their images: the nearest class mean is right far more often than not."""
    means = torch.stack([mnist.train.images[mnist.train.labels == k].mean(0) for k in range(10)])
    distances = torch.cdist(mnist.test.images.flatten(1), means.flatten(1))
    assert (distances.argmin(1) == mnist.test.labels).float().mean() > 0.75


def test_validation_is_a_fair_sample(mnist: Dataset) -> None:
    """Taking the head of the hash order favours no class: chi-square below its 99.99 % point."""
    share = mnist.train.labels.bincount() / len(mnist.train)
    expected = share * len(mnist.validation)
    chi_square = ((mnist.validation.labels.bincount() - expected) ** 2 / expected).sum()
    assert chi_square < 33.7  # 9 degrees of freedom


def test_grey_mnist_is_the_same_data(mnist: Dataset, real_data: Path) -> None:
    grey = load("mnist", real_data, binary=False)
    assert grey.fingerprint == mnist.fingerprint
    assert torch.equal((grey.test.images * 255 > 127).float(), mnist.test.images)
    assert torch.equal(grey.train.labels, mnist.train.labels)
    values = np.bincount((grey.test.images * 255).round().byte().numpy().ravel())
    assert len(values) == 256
    assert (values > 0).all()


def test_loading_existing_data_writes_nothing(
    real_data: Path, tmp_path: Path, no_network: None
) -> None:
    (tmp_path / "MNIST").symlink_to(real_data / "MNIST")
    before = tree(tmp_path)
    load("mnist", tmp_path)
    assert tree(tmp_path) == before


def test_mnist_and_the_package_need_no_torchvision(real_data: Path) -> None:
    code = (
        "import sys; from bnrepro import config, data;"
        "data.load(config.Mnist('mnist', sys.argv[1], 5000, binary=True));"
        "print({'torchvision', 'sklearn', 'PIL', 'urllib.request'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(real_data)], capture_output=True, text=True, check=True
    )
    assert "torchvision" not in done.stdout
    assert "sklearn" not in done.stdout


def test_a_flipped_byte_is_found(real_data: Path, tmp_path: Path) -> None:
    for name in mnists.SHA256:
        write_all(tmp_path / "MNIST/raw", {name: (real_data / "MNIST/raw" / name).read_bytes()})
    path = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as failure:
        load("mnist", tmp_path)
    message = str(failure.value)
    assert str(path) in message
    assert mnists.SHA256[path.name] in message
    assert hashlib.sha256(content).hexdigest() in message
    assert "bnrepro data fetch mnist" in message
    assert "\n" not in message
    assert failure.value.exit_code == 3


@pytest.mark.slow
def test_import_of_the_real_cifar10(real_data: Path, tmp_path: Path, no_network: None) -> None:
    if not (real_data / "cifar10-png").is_dir():
        pytest.skip(f"no cifar10-png in {real_data}")
    import_copy("cifar10", real_data / "cifar10-png", tmp_path)
    data = load("cifar10", tmp_path)
    assert data.fingerprint == cifar10s.Cifar10.known.fingerprint
    assert [len(s) for s in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert data.test.labels.bincount().tolist() == [1_000] * 10
    assert data.train.images.mean((0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-4)
    assert data.train.images.std((0, 2, 3)) == pytest.approx([1, 1, 1], abs=1e-4)


# --- digits


def test_digits_need_no_download(tmp_path: Path, no_network: None) -> None:
    data = load("digits", tmp_path / "nowhere")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1297, 200, 300]
    assert data.image_shape == (1, 8, 8)
    sixteenths = torch.cat([s.images for s in (data.train, data.validation, data.test)]) * 16
    assert sixteenths.unique().tolist() == list(range(17))
    assert not (tmp_path / "nowhere").exists()


def test_digits_are_all_there() -> None:
    from sklearn.datasets import load_digits

    data = load("digits", "nowhere")
    ours = torch.cat([s.images for s in (data.train, data.validation, data.test)]) * 16
    theirs = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, ours.flatten(1).byte().numpy())) == sorted(map(bytes, theirs))


def test_another_version_of_the_digits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(digits.Digits.known, fingerprint="0" * 64)
    monkeypatch.setattr(digits.Digits, "known", wrong)
    with pytest.raises(DataError, match=r"expected 0{64}, found [0-9a-f]{64}"):
        load("digits", "nowhere")


# --- one data set, whatever copy it comes from


def test_all_copies_of_mnist_give_the_same(
    mini_mnist: Mini, tmp_path: Path, no_network: None
) -> None:
    idx = idx_files(mini_mnist)
    raw = write_all(tmp_path / "raw", {f"MNIST/raw/{n}": c for n, c in idx.items()})
    gz = write_all(tmp_path / "gz", {f"MNIST/raw/{n}.gz": gzip.compress(c) for n, c in idx.items()})
    folder = write_all(tmp_path / "folder", mini_mnist.files())
    (tmp_path / "zips").mkdir()
    files = list(mini_mnist.files().items())
    write_zip(tmp_path / "zips" / "b.zip", dict(files[:25]), zipfile.ZIP_DEFLATED)
    write_zip(tmp_path / "zips" / "a.zip", dict(files[25:]))
    one_zip = write_zip(tmp_path / "one.zip", dict(reversed(files)))

    dotted = {n.replace("-idx", ".idx"): c for n, c in idx.items()}
    nested = write_all(tmp_path / "nested", {f"{n}/{n}": c for n, c in idx.items()})
    kaggle = write_all(tmp_path / "kaggle", dotted)
    keras = write_keras(tmp_path / "keras" / "mnist.npz", mini_mnist)

    first = load("mnist", raw)
    assert_same(first, load("mnist", gz))
    every = (folder, tmp_path / "zips", one_zip, raw, raw / "MNIST/raw", gz)
    for i, source in enumerate((*every, nested, kaggle, keras, keras.parent)):
        import_copy("mnist", source, tmp_path / f"root {i}")
        assert_same(first, load("mnist", tmp_path / f"root {i}"))


def test_all_copies_of_cifar10_give_the_same(
    mini_cifar10: Mini, tmp_path: Path, no_network: None
) -> None:
    raw = write_all(tmp_path / "raw", {f"cifar-10-batches-py/{n}": c
                                       for n, c in batches(mini_cifar10).items()})  # fmt: skip
    zipped = write_zip(tmp_path / "one.zip", mini_cifar10.files())
    first = load("cifar10", raw)
    archive = tmp_path / "archive" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(raw / "cifar-10-batches-py", "cifar-10-batches-py")
    every = (zipped, raw, raw / "cifar-10-batches-py", archive, archive.parent)
    for i, source in enumerate(every):
        import_copy("cifar10", source, tmp_path / f"root {i}")
        assert_same(first, load("cifar10", tmp_path / f"root {i}"))


def drawn(seed: int, n: int, validation: int) -> tuple[list[int], list[int]]:
    """The rows that a seed holds out of n, and those it trains on, in the order it draws them."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0, 0)))
    order = np.argsort(bits.random_raw(n), kind="stable").tolist()
    return order[:validation], order[validation:]


@pytest.mark.parametrize("seed", [0, 3])
def test_order_and_splits_follow_from_the_content_and_the_seed(
    mini_mnist: Mini, tmp_path: Path, seed: int
) -> None:
    data = load(
        "mnist", write_all(tmp_path, {f"MNIST/raw/{n}": c
                                      for n, c in idx_files(mini_mnist).items()}),
        binary=False, seed=seed,
    )  # fmt: skip
    ordered = mini_mnist.in_order("train")
    held_out, trained = drawn(seed, len(ordered), 10)
    splits = {
        "validation": [ordered[row] for row in sorted(held_out)],
        "train": [ordered[row] for row in sorted(trained)],
        "test": mini_mnist.in_order("test"),
    }
    for part, expected in splits.items():
        split = getattr(data, part)
        assert (split.images * 255).round().byte().numpy().tobytes() == b"".join(
            pixels.tobytes() for pixels, _ in expected
        )
        assert split.labels.tolist() == [label for _, label in expected]
    assert data.fingerprint == mini_mnist.fingerprint()


def test_equal_images_all_stay(tmp_path: Path) -> None:
    """Twice in training with different labels, and once more in the test set."""
    image = png(np.full((1, 4, 4), 7, np.uint8))
    names = ("train/a/1.png", "train/b/1.png", "train/b/2.png", "test/a/1.png")
    data = load("folder", write_all(tmp_path, dict.fromkeys(names, image)), validation=1)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [2, 1, 1]
    assert sorted(data.validation.labels.tolist() + data.train.labels.tolist()) == [0, 1, 1]


def test_size_of_the_validation_split(mini_mnist: Mini, tmp_path: Path) -> None:
    write_all(tmp_path / "MNIST/raw", idx_files(mini_mnist))
    none, some = (load("mnist", tmp_path, validation=v) for v in (0, 7))
    assert [len(none.train), len(none.validation)] == [40, 0]
    assert [len(some.train), len(some.validation)] == [33, 7]
    both = torch.cat([some.validation.images, some.train.images])
    assert sorted(both.flatten(1).tolist()) == sorted(none.train.images.flatten(1).tolist())
    assert torch.equal(some.test.images, none.test.images)
    for v in (-1, 40):
        with pytest.raises(ConfigError, match=r"dataset\.validation.*choose 1 to 39"):
            load("mnist", tmp_path, validation=v)


def test_a_limit_trains_on_some_that_the_seed_draws_and_changes_nothing_else(
    mini_mnist: Mini, tmp_path: Path
) -> None:
    write_all(tmp_path / "MNIST/raw", idx_files(mini_mnist))
    whole = load("mnist", tmp_path, validation=0)
    _, trained = drawn(0, 40, 7)
    for limit in (1, 12, 33):
        few = load("mnist", tmp_path, validation=7, limit=limit)
        rows = sorted(trained[:limit])
        assert torch.equal(few.train.images, whole.train.images[rows])
        assert few.train.labels.tolist() == whole.train.labels[rows].tolist()
        assert_same(
            few, dataclasses.replace(load("mnist", tmp_path, validation=7), train=few.train)
        )
    another = load("mnist", tmp_path, validation=7, limit=12, seed=1)
    assert not torch.equal(another.train.images, load("mnist", tmp_path, limit=12).train.images)
    for limit in (0, -1, 34):
        with pytest.raises(ConfigError, match=r"dataset\.limit\): choose 1 to 33"):
            load("mnist", tmp_path, validation=7, limit=limit)


def test_a_scale_is_of_the_images_within_the_limit(mini_cifar10: Mini, tmp_path: Path) -> None:
    import_copy("cifar10", write_all(tmp_path / "png", mini_cifar10.files()), tmp_path)
    ordered = mini_cifar10.in_order("train")
    _, trained = drawn(0, len(ordered), 10)
    train = np.stack([ordered[row][0] for row in sorted(trained[:5])])
    own = load("cifar10", tmp_path, limit=5)
    mean, std = train.mean((0, 2, 3), keepdims=True), train.std((0, 2, 3), keepdims=True)
    assert own.train.images.numpy() == pytest.approx((train - mean) / std, abs=1e-5)
    pooled = load("cifar10", tmp_path, limit=5, inputs="standardized")
    expected = (train - train.mean()) / train.std()
    assert pooled.train.images.numpy() == pytest.approx(expected, abs=1e-5)


def test_cifar10_is_scaled_by_what_is_trained_on(mini_cifar10: Mini, tmp_path: Path) -> None:
    import_copy("cifar10", write_all(tmp_path / "png", mini_cifar10.files()), tmp_path)
    data = load("cifar10", tmp_path)
    ordered = mini_cifar10.in_order("train")
    _, trained = drawn(0, len(ordered), 10)
    train, test = (
        np.stack([pixels for pixels, _ in images]).astype(np.float64)
        for images in ([ordered[row] for row in sorted(trained)], mini_cifar10.in_order("test"))
    )
    mean = train.mean((0, 2, 3), keepdims=True)
    std = train.std((0, 2, 3), keepdims=True)
    assert data.train.images.numpy() == pytest.approx((train - mean) / std, abs=1e-5)
    assert data.test.images.numpy() == pytest.approx((test - mean) / std, abs=1e-5)


# --- inputs scaled well and badly


def place(name: str, request: pytest.FixtureRequest, folder: Path) -> Path:
    """A miniature of a data set below a folder."""
    if name in ("mnist", "cifar10"):
        made = request.getfixturevalue(f"mini_{name}")
        import_copy(name, write_all(folder / "png", made.files()), folder / "root")
    if name == "folder":
        write_all(folder / "root", own_images())
    return folder / "root"


@pytest.mark.parametrize("name", ["mnist", "cifar10", "digits", "folder"])
@pytest.mark.parametrize("binary", [False, True])
def test_inputs_are_rescaled_by_all_pixels_that_are_trained_on(
    name: str, binary: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = place(name, request, tmp_path)
    splits = "train", "validation", "test"

    def loaded(inputs: str) -> list[np.ndarray]:
        data = load(name, root, binary=binary, inputs=inputs, validation=3)
        assert data.fingerprint == plain.fingerprint
        for split in splits:
            assert getattr(data, split).images.dtype == torch.float32
            assert torch.equal(getattr(data, split).labels, getattr(plain, split).labels)
        return [getattr(data, split).images.double().numpy() for split in splits]

    plain = load(name, root, binary=binary, validation=3)
    raw = loaded("raw")
    if name != "cifar10":  # the others' own scaling is a division
        top = {"digits": 16}.get(name, 1 if name == "mnist" and binary else 255)
        for ours, split in zip(raw, splits, strict=True):
            shown = getattr(plain, split).images.double().numpy() * top
            stored = shown * 255 if name == "mnist" and binary else shown
            assert ours == pytest.approx(stored, abs=1e-4)
    assert all(np.array_equal(values, values.round()) for values in raw)
    assert max(values.max() for values in raw) == (16 if name == "digits" else 255)
    mean, std = raw[0].mean(), raw[0].std()
    standardized = loaded("standardized")
    factors = None
    shifted, uneven = loaded("shifted"), loaded("uneven")
    for i in range(len(splits)):
        assert standardized[i] == pytest.approx((raw[i] - mean) / std, abs=1e-5)
        assert shifted[i] == pytest.approx(standardized[i] + 3, abs=1e-5)
        found = uneven[i] / np.where(standardized[i] == 0, np.nan, standardized[i])
        factors = np.nanmean(found, axis=0) if factors is None else factors
        assert uneven[i] == pytest.approx(standardized[i] * factors, abs=1e-4)
    assert factors is not None
    assert factors.shape == plain.image_shape
    assert len(np.unique(factors.round(9))) == factors.size


def test_uneven_factors_are_log_uniform_and_stay_what_they_are() -> None:
    found = scaling.factors((3, 32, 32)).double().numpy()
    assert found.shape == (3, 32, 32)
    assert 0.03 <= found.min() < 0.0301
    assert 29.9 < found.max() <= 30
    share = np.log(found / 0.03) / np.log(1000)
    assert np.histogram(share, 8, (0, 1))[0] == pytest.approx(384, abs=4 * np.sqrt(384))
    pinned = [2.4434662, 0.1934111, 0.0398146]
    assert scaling.factors((1, 2, 2)).flatten()[:3].tolist() == pytest.approx(pinned, rel=1e-5)


@pytest.mark.parametrize("name", ["mnist", "digits"])
@pytest.mark.parametrize("binary", [False, True])
def test_whitened_inputs_have_no_covariance_and_unit_variance(
    name: str, binary: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = place(name, request, tmp_path)
    raw, white = (
        load(name, root, binary=binary, inputs=inputs, validation=3)
        for inputs in ("raw", "whitened")
    )
    x, y = (data.train.images.flatten(1).double().numpy() for data in (raw, white))
    assert white.train.images.shape == raw.train.images.shape
    assert y.mean(0) == pytest.approx(0, abs=1e-3)
    variances, directions = np.linalg.eigh(np.cov(x.T, bias=True))
    ridge = scaling.RIDGE * variances.sum() / len(variances)
    covariance = directions.T @ np.cov(y.T, bias=True) @ directions
    # What varies more than the ridge has a variance near 1; what does not, one near 0.
    assert covariance == pytest.approx(np.diag(variances / (variances + ridge)), abs=1e-3)
    # ZCA: of all ways to whiten, the one whose matrix is symmetric; the same for other splits.
    symmetric = (directions / np.sqrt(variances.clip(0) + ridge)) @ directions.T
    test = raw.test.images.flatten(1).double().numpy()
    expected = (test - x.mean(0)) @ symmetric
    assert white.test.images.flatten(1).numpy() == pytest.approx(expected, abs=1e-3)


def test_images_that_cannot_be_standardized_are_refused(tmp_path: Path) -> None:
    flat = {f"{part}/{of}/{i}.png": png(np.full((1, 2, 2), 7, np.uint8))
            for part in ("train", "test") for of in "ab" for i in range(12)}  # fmt: skip
    write_all(tmp_path, flat)
    assert load("folder", tmp_path, inputs="raw").train.images.unique().tolist() == [7]
    with pytest.raises(ConfigError, match=r"dataset\.inputs=uneven.*use dataset\.inputs=raw"):
        load("folder", tmp_path, inputs="uneven")
    with pytest.raises(ConfigError, match=r"dataset\.inputs=whitened.*use dataset\.inputs=raw"):
        load("folder", tmp_path, inputs="whitened")


def test_moving_to_a_device_moves_everything(tmp_path: Path) -> None:
    moved = load("digits", tmp_path).to("meta")
    for split in (moved.train, moved.validation, moved.test):
        assert split.images.device.type == split.labels.device.type == "meta"


# --- a folder of one's own


def own_images(classes: str = "ba", shape: tuple[int, ...] = (3, 5, 6)) -> dict[str, bytes]:
    return {
        f"{part}/{c}/{i}.png": png(pixels)
        for part, n in (("train", 10), ("test", 3))
        for c in classes
        for i, (pixels, _) in enumerate(random_images(ord(c) + n, n, shape))
    }


def test_folder_and_zips_of_it(tmp_path: Path, no_network: None) -> None:
    files = own_images()
    tree_root = write_all(tmp_path / "tree", files)
    write_all(tree_root, {"README": b"", "train/.DS_Store": b"", "train/a/.x.png": b"no PNG"})
    (tmp_path / "zips").mkdir()
    write_zip(tmp_path / "zips" / "all.zip", {**files, "notes.txt": b"", "train/": b""})
    data = load("folder", tree_root)
    assert_same(data, load("folder", tmp_path / "zips"))
    assert data.classes == ("a", "b")
    assert data.image_shape == (3, 5, 6)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 2, 6]
    assert data.train.images.min() >= 0
    assert 0.9 < data.train.images.max() <= 1


def test_folder_keeps_label_and_image_together(tmp_path: Path) -> None:
    files = {
        f"{part}/{name}/{i}.png": png(np.full((1, 2, 2), value + i, np.uint8))
        for part in ("train", "test")
        for name, value in (("dark", 0), ("light", 200))
        for i in range(5)
    }
    data = load("folder", write_all(tmp_path, files))
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.images.amax((1, 2, 3)) > 0.5, split.labels == 1)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train/a/odd.png", png(np.zeros((3, 6, 6), np.uint8)), r"\(3, 5, 6\), found \(3, 6, 6\)"),
        ("test/c/odd.png", png(np.zeros((3, 5, 6), np.uint8)), "unknown class 'c'"),
        ("train/a/odd.tif", b"", r"only CLASS/NAME\.png"),
        ("train/a/odd.jpg", b"", "no image that can be read"),
        ("train/odd.png", png(np.zeros((3, 5, 6), np.uint8)), r"only CLASS/NAME\.png"),
        ("train/a/b/odd.png", png(np.zeros((3, 5, 6), np.uint8)), r"only CLASS/NAME\.png"),
        ("train/a/odd.png", b"GIF89a" + bytes(50), "no image that can be read"),
        ("train/a/odd.png", png(random_images(0, 1, (3, 5, 6))[0][0])[:-40], "damaged image"),
    ],
)
def test_an_image_that_does_not_fit(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    write_all(tmp_path / "tree", {**own_images(), name: content})
    with pytest.raises(DataError, match=reason) as failure:
        load("folder", tmp_path / "tree")
    assert "odd" in str(failure.value) or "train/a/b" in str(failure.value)
    (tmp_path / "zip").mkdir()
    write_zip(tmp_path / "zip" / "all.zip", {**own_images(), name: content})
    with pytest.raises(DataError, match=reason):
        load("folder", tmp_path / "zip")


def save(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pictures(images: dict[str, bytes], of: str = "a") -> dict[str, bytes]:
    """A tree with these images in a class of the training images, and black ones elsewhere."""
    black = png(np.zeros((1, 4, 6), np.uint8))
    tree = {f"{part}/{c}/black{i}.png": black for part in ("train", "test") for c in "ab"
            for i in range(6)}  # fmt: skip
    return {**tree, **{f"train/{of}/{name}": content for name, content in images.items()}}


def stored(root: Path, size: int | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """The one training image that is not black, uint8 (C, H, W), and what was noted."""
    data = load("folder", root, inputs="raw", size=size)
    images = torch.cat([data.train.images, data.validation.images])
    (found,) = images[images.amax((1, 2, 3)) > 0]
    return found.byte().numpy(), data.notes


COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COLOURS)
GREY = Image.fromarray(COLOURS[..., 0])
TWO = Image.fromarray(COLOURS[..., 0] > 127)
PALETTE = PICTURE.quantize(8)


@pytest.mark.parametrize(
    ("name", "content", "expected", "note"),
    [
        ("x.png", save(PICTURE), COLOURS, "grey taken as RGB: 24"),
        ("x.png", save(PALETTE), np.asarray(PALETTE.convert("RGB")), "with a palette: 1"),
        ("x.gif", save(PALETTE, "gif"), np.asarray(PALETTE.convert("RGB")), "with a palette: 1"),
        ("x.png", save(GREY.quantize(4)), np.asarray(GREY.quantize(4).convert("L"))[..., None],
         "with a palette: 1"),
        ("x.png", save(TWO), np.asarray(TWO.convert("L"))[..., None], "with one bit per pixel: 1"),
        ("x.bmp", save(PICTURE, "bmp"), COLOURS, "grey taken as RGB"),
        ("x.webp", save(PICTURE, "webp", lossless=True), COLOURS, "grey taken as RGB"),
        ("x.JPG", save(PICTURE, "jpeg"), None, "grey taken as RGB"),
        ("x.png", save(PICTURE, "jpeg"), None, "grey taken as RGB"),  # named so by many
    ],
)  # fmt: skip
def test_images_of_other_kinds_keep_their_colours(
    tmp_path: Path, name: str, content: bytes, expected: np.ndarray | None, note: str
) -> None:
    found, notes = stored(write_all(tmp_path, pictures({name: content})))
    if expected is None:
        expected = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(found, expected.transpose(2, 0, 1))
    assert note in notes[0]


def test_images_get_the_fewest_channels_that_hold_all_of_them(tmp_path: Path) -> None:
    clear = Image.fromarray(np.dstack([COLOURS, COLOURS[..., :1]]))
    root = write_all(tmp_path, pictures({"rgba.png": save(clear)}))
    data = load("folder", root, inputs="raw")
    images = torch.cat([data.train.images, data.validation.images])
    assert data.image_shape == (4, 4, 6)
    assert {tuple(i.amax((1, 2)).tolist()) for i in images} >= {(0, 0, 0, 255)}
    assert set(data.test.images[:, 3].unique().tolist()) == {255}  # opaque
    assert any(np.array_equal(i.byte().numpy(), np.asarray(clear).transpose(2, 0, 1))
               for i in images)  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_an_image_is_turned_as_its_orientation_says(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    lying = PICTURE.transpose(Image.Transpose.ROTATE_90)
    found, notes = stored(
        write_all(tmp_path, pictures({f"x.{kind}": save(lying, kind, exif=exif.tobytes())}))
    )
    as_stored = np.asarray(Image.open(io.BytesIO(save(lying, kind))))
    assert np.array_equal(found, np.rot90(as_stored, -1).transpose(2, 0, 1))
    assert "turned as EXIF says: 1" in notes[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.png", save(Image.new("I;16", (6, 4))), "16 bits per value"),
        ("x.jpg", save(Image.new("CMYK", (6, 4)), "jpeg"), "values of mode CMYK"),
        ("x.png", save(PICTURE, save_all=True, append_images=[GREY.convert("RGB")]),
         "more than one picture in a file"),
        ("x.gif", save(PALETTE, "gif", save_all=True, append_images=[TWO.convert("P")]),
         "more than one picture in a file"),
    ],
)  # fmt: skip
def test_an_image_that_conversion_would_change_is_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    write_all(tmp_path, pictures({name: content}))
    with pytest.raises(DataError, match=rf"{reason} \(.*{name}\): convert it"):
        load("folder", tmp_path)


def test_colours_of_16_bits_are_refused(tmp_path: Path) -> None:
    """Pillow reads the upper half of each and says nothing."""
    rows = b"".join(b"\0" + bytes(6 * 6) for _ in range(4))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b""))  # fmt: skip
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    write_all(tmp_path, pictures({"x.png": content}))
    with pytest.raises(DataError, match="16 bits per value"):
        load("folder", tmp_path)


def test_a_flipped_bit_of_a_png_is_found() -> None:
    whole = save(Image.fromarray(COLOURS.repeat(4, 0).repeat(4, 1)))
    pixels = image_tree.decode(whole, "x.png")
    seen = 0
    for bit in range(0, len(whole) * 8, 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        try:
            assert np.array_equal(image_tree.decode(bytes(content), "x.png"), pixels)
        except DataError:
            seen += 1
    assert seen > len(whole)


def test_images_of_many_sizes_are_resized_to_one(tmp_path: Path) -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200  # the middle square
    write_all(tmp_path, pictures({"wide.png": save(Image.fromarray(wide))}))
    with pytest.raises(DataError, match=r"found \(3, 8, 16\).*dataset\.size=32"):
        load("folder", tmp_path)
    found, notes = stored(tmp_path, size=4)
    assert np.array_equal(found, np.full((3, 4, 4), 200))
    assert "brought to 4 x 4: 25" in notes[0]
    plain, small = load("folder", tmp_path, size=8), load("folder", tmp_path, size=4)
    assert small.fingerprint != plain.fingerprint  # it is of the pixels
    assert verify("folder", tmp_path, size=4)[0].fingerprint == small.fingerprint


def test_resizing_to_the_size_of_an_image_changes_nothing(tmp_path: Path) -> None:
    write_all(tmp_path, own_images(shape=(3, 5, 5)))
    assert_same(load("folder", tmp_path), load("folder", tmp_path, size=5))


def test_images_that_fit_keep_their_fingerprint(tmp_path: Path) -> None:
    """Pinned: that of 8-bit grey, RGB and RGBA images before other kinds were taken."""
    pinned = {
        (1, 5, 6): "2df99992caf0eb29d8f3f5a5d746eda6d6441667fc09818b6fceafadd2e80b34",
        (3, 5, 6): "67bee366ab2fbfc1319a703c16eb34c007ea655f383078f910059b109260c077",
        (4, 5, 6): "c473e931c926bbca36f667c1969c1228d913ac8d07959120273b338d6c8b7849",
    }
    for shape, fingerprint in pinned.items():
        root = write_all(tmp_path / str(shape[0]), own_images(shape=shape))
        data = load("folder", root)
        assert (data.fingerprint, data.notes) == (fingerprint, ())
        assert data.decoder is not None
        assert data.decoder["pillow"]


# --- its classes


def named(*classes: str) -> dict[str, bytes]:
    """A tree with these classes, each of images of one value: that of its place."""
    return {
        f"{part}/{name}/{i}.png": png(np.full((1, 2, 2), place, np.uint8))
        for part in ("train", "test")
        for place, name in enumerate(classes)
        for i in range(6)
    }


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    names = ("0", "1", "2", "10", "11")
    data = load("folder", write_all(tmp_path / "numbers", named(*names)), inputs="raw")
    assert data.classes == names
    assert torch.equal(data.test.images[:, 0, 0, 0].long(), data.test.labels)
    assert image_tree.class_names({"10", "9", "x"}) == ("10", "9", "x")
    assert image_tree.class_names({"010", "9", "09", "0"}) == ("0", "09", "9", "010")


def test_classes_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path, named("9", "10"))
    assert main(["data", "verify", "folder", "--root", str(tmp_path)]) == 0
    assert "(channels, height, width) 1 x 2 x 2; classes: 0 9, 1 10" in capsys.readouterr().out


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    content = png(np.zeros((1, 2, 2), np.uint8))
    files = {f"{part}/images/{i}.png": content for part in ("train", "test") for i in range(12)}
    write_all(tmp_path, files)
    with pytest.raises(DataError, match=r"one class only, 'images'.*train/CLASS/NAME\.png"):
        load("folder", tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images_is_refused(tmp_path: Path, part: str) -> None:
    root = write_all(tmp_path / "tree", {**named("a", "c"), f"{part}/b/.hidden": b""})
    (tmp_path / "zips").mkdir()
    write_zip(tmp_path / "zips" / "all.zip", {**named("a", "c"), f"{part}/b/": b""})
    for place in (root, tmp_path / "zips"):
        with pytest.raises(DataError, match=rf"no image of a class.*{part}/b"):
            load("folder", place)


def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path: Path) -> None:
    one, other = "caf\u00e9", "cafe\u0301"
    content = [png(np.full((1, 2, 2), value, np.uint8)) for value in range(12)]
    files = {f"train/{one if i % 2 else other}/{i}.png": c for i, c in enumerate(content)}
    files |= {f"test/{other}/0.png": content[0], "test/b/0.png": content[1]}
    data = load("folder", write_all(tmp_path, {**files, "train/b/0.png": content[0]}))
    assert data.classes == ("b", one)
    assert len(data.train) + len(data.validation) == 13


def test_names_in_a_zip_that_does_not_say_their_encoding(tmp_path: Path) -> None:
    write_all(tmp_path / "tree", named("b", "né"))
    (tmp_path / "zips").mkdir()
    path = write_zip(tmp_path / "zips" / "all.zip", named("b", "né"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x00\x08\x00\x00", bytes(4)))  # the flag of UTF-8
    with zipfile.ZipFile(path) as archive:
        assert not any("é" in name for name in archive.namelist())
    assert_same(load("folder", tmp_path / "zips"), load("folder", tmp_path / "tree"))


def test_too_few_images_for_a_tenth(tmp_path: Path) -> None:
    write_all(tmp_path, {n: c for n, c in named("a", "b").items() if n[-5] in "012"})
    with pytest.raises(ConfigError, match=r"a tenth of 6 .*dataset\.validation") as failure:
        load("folder", tmp_path)
    assert failure.value.exit_code == 2
    assert len(load("folder", tmp_path, validation=1).validation) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block_reading(tmp_path: Path) -> None:
    write_all(tmp_path / "tree", named("a", "b"))
    os.mkfifo(tmp_path / "tree/train/a/z.png")
    with pytest.raises(DataError, match=r"no regular file.*z\.png"):
        load("folder", tmp_path / "tree")
    (tmp_path / "zips").mkdir()
    os.mkfifo(tmp_path / "zips" / "z.zip")
    with pytest.raises(DataError, match=r"no regular file.*z\.zip"):
        load("folder", tmp_path / "zips")


def test_folders_of_other_names_for_train_and_test(tmp_path: Path) -> None:
    files = named("a", "b")
    write_all(tmp_path / "good", files)
    capitals = {n.replace("train", "Train").replace("test", "TEST"): c for n, c in files.items()}
    write_all(tmp_path / "capitals", capitals)
    (tmp_path / "zips").mkdir()
    write_zip(tmp_path / "zips" / "all.zip", capitals)
    for place in ("capitals", "zips"):
        assert_same(load("folder", tmp_path / "good"), load("folder", tmp_path / place))
    write_all(tmp_path / "val", {n.replace("test", "val"): c for n, c in files.items()})
    with pytest.raises(DataError, match=r"val holds train, val\): rename val to test"):
        load("folder", tmp_path / "val")
    write_all(tmp_path / "val", files)
    assert "val is not read" in load("folder", tmp_path / "val").notes[0]


def test_folder_without_images(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(DataError, match="no images"):
        load("folder", tmp_path)
    write_all(tmp_path, {"train/a/1.png": png(np.zeros((1, 2, 2), np.uint8))})
    with pytest.raises(DataError, match=r"no images in test/CLASS/ \(.* holds train\)"):
        load("folder", tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"no images in test/CLASS/"):
        load("folder", tmp_path)


def test_a_png_cannot_claim_to_be_huge() -> None:
    content = bytearray(png(np.zeros((1, 4, 4), np.uint8)))
    content[16:24] = (9000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(DataError, match="9000 x 9000 pixels"):
        image_tree.decode(bytes(content), "x.png")
    content[16:24] = (2**20).to_bytes(4, "big") * 2  # what Pillow itself refuses
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"\(x\.png\)"):
        image_tree.decode(bytes(content), "x.png")


# --- taking over a copy: what must be refused


def assert_refused(source: Path, root: Path, reason: str, name: str = "mnist") -> None:
    with pytest.raises(DataError, match=reason) as failure:
        import_copy(name, source, root)
    assert "\n" not in str(failure.value)
    assert not root.exists() or not any(path.is_file() for path in root.rglob("*"))


def test_an_altered_pixel_is_refused(mini_mnist: Mini, tmp_path: Path) -> None:
    pixels, label = mini_mnist.train[3]
    changed = pixels.copy()
    changed[0, 9, 9] ^= 1
    mini_mnist.train[3] = (changed, label)
    source = write_all(tmp_path / "source", mini_mnist.files())
    expected = mnists.Mnist.known.fingerprint
    assert_refused(
        source, tmp_path / "root", f"expected {expected}, found {mini_mnist.fingerprint()}"
    )


def test_swapped_labels_are_refused(mini_mnist: Mini, tmp_path: Path) -> None:
    (p, a), (q, b) = mini_mnist.test[0], mini_mnist.test[1]
    mini_mnist.test[:2] = [(p, b), (q, a)]
    source = write_all(tmp_path / "source", mini_mnist.files())
    assert_refused(source, tmp_path / "root", "this is not mnist")


def test_a_missing_image_is_refused_by_number(mini_mnist: Mini, tmp_path: Path) -> None:
    del mini_mnist.train[-1]
    source = write_all(tmp_path / "source", mini_mnist.files())
    assert_refused(source, tmp_path / "root", r"40 images expected in train.*found 39")


def test_an_unknown_class_is_refused(mini_mnist: Mini, tmp_path: Path) -> None:
    files = mini_mnist.files()
    files["train/ten/0.png"] = files.pop("train/0/0000.png")
    source = write_all(tmp_path / "source", files)
    assert_refused(source, tmp_path / "root", "unknown class 'ten'")


def test_the_same_file_in_two_zips_is_refused(mini_mnist: Mini, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    files = mini_mnist.files()
    write_zip(tmp_path / "source" / "1.zip", files)
    write_zip(tmp_path / "source" / "2.zip", {"train/0/0000.png": files["train/0/0000.png"]})
    assert_refused(tmp_path / "source", tmp_path / "root", "the same file twice")


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((3, 7), np.uint8), np.array([{}]), None])
def test_a_file_of_keras_that_is_not_what_it_should_be(
    mini_mnist: Mini, tmp_path: Path, array: np.ndarray | None
) -> None:
    path = write_keras(
        tmp_path / "mnist.npz", mini_mnist, **{} if array is None else {"x_test": array}
    )
    if array is None:
        path.write_bytes(path.read_bytes()[:-100])
    assert_refused(path, tmp_path / "root", "cannot read")


def test_a_table_is_refused_with_what_to_give(mini_mnist: Mini, tmp_path: Path) -> None:
    (tmp_path / "mnist_train.csv").write_text("label,1x1\n5,0\n")
    for source in (tmp_path, tmp_path / "mnist_train.csv"):
        assert_refused(source, tmp_path / "root", r"four \.gz files.*mnist\.npz.*\(\.csv\) are not")


def test_importing_nothing_is_refused(mini_mnist: Mini, tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", tmp_path / "root", "no copy of mnist")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", tmp_path / "root", "no copy of mnist")
    (tmp_path / "text").write_text("no archive")
    assert_refused(tmp_path / "text", tmp_path / "root", "no copy of mnist")
    with pytest.raises(ConfigError, match="choose mnist or cifar10"):
        import_copy("digits", tmp_path, tmp_path)


@pytest.mark.parametrize(
    "name", ["../escaped.png", "train/../../escaped.png", "/escaped.png", "train\\..\\escaped.png"]
)
def test_a_path_that_leads_out_of_a_zip(mini_mnist: Mini, tmp_path: Path, name: str) -> None:
    work = tmp_path / "inner" / "work"
    work.mkdir(parents=True)
    content = png(np.zeros((1, 28, 28), np.uint8))
    source = write_zip(work / "source.zip", {**mini_mnist.files(), name: content})
    before = tree(tmp_path)
    assert_refused(source, work / "root", "leads out of the archive")
    assert tree(tmp_path) == before
    assert not Path("/escaped.png").exists()


def test_a_link_in_a_zip(mini_mnist: Mini, tmp_path: Path) -> None:
    source = write_zip(tmp_path / "source.zip", mini_mnist.files())
    link = zipfile.ZipInfo("train/0/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert_refused(source, tmp_path / "root", r"link in an archive.*link\.png")


def test_a_zip_bomb(mini_mnist: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tree, "FILE_LIMIT", 2**20)
    files = mini_mnist.files()
    files["train/0/0000.png"] += bytes(2**24)
    source = write_zip(tmp_path / "source.zip", files, zipfile.ZIP_DEFLATED)
    assert source.stat().st_size < 2**20
    assert_refused(source, tmp_path / "root", r"more than 1,048,576 bytes.*0000\.png")


def test_a_damaged_zip(mini_mnist: Mini, tmp_path: Path) -> None:
    source = write_zip(tmp_path / "source.zip", mini_mnist.files())
    content = bytearray(source.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    source.write_bytes(content)
    assert_refused(source, tmp_path / "root", r"cannot read: Bad CRC-32.*\.png")
    source.write_bytes(content[: len(content) // 2])
    assert_refused(source, tmp_path / "root", "cannot read")


def test_names_in_an_archive_cannot_break_the_message(tmp_path: Path, mini_mnist: Mini) -> None:
    source = write_zip(
        tmp_path / "source.zip", {**mini_mnist.files(), "train/0/a\n\x1b[31m.exe": b""}
    )
    assert_refused(source, tmp_path / "root", "only CLASS/NAME")


def test_a_failed_write_leaves_the_old_file(
    mini_mnist: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_all(tmp_path / "source", mini_mnist.files())
    root = tmp_path / "root"
    target = import_copy("mnist", source, root)
    before = target.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write: No space left on device.*mnist\.npz"):
        import_copy("mnist", source, root)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["mnist.npz"]


def test_a_folder_that_cannot_be_written(
    mini_mnist: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_all(tmp_path / "source", mini_mnist.files())
    decoded = []
    monkeypatch.setattr(image_tree, "decode", lambda *a: decoded.append(a))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(DataError, match="read-only"):
        import_copy("mnist", source, tmp_path / "root")
    assert not decoded  # said before the long part
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is no folder"):
        import_copy("mnist", source, tmp_path / "file")


# --- damaged copies


def test_a_truncated_file(mini_mnist: Mini, tmp_path: Path) -> None:
    files = idx_files(mini_mnist)
    name = "train-images-idx3-ubyte"
    for end in (0, 10, 1000, len(files[name]) - 1):
        write_all(tmp_path / "MNIST/raw", {**files, name: files[name][:end]})
        with pytest.raises(DataError, match=f"SHA-256 expected .* found .*{name}"):
            load("mnist", tmp_path)
    packed = gzip.compress(files[name])
    (tmp_path / "MNIST/raw" / name).unlink()
    for end in (0, 10, 1000, len(packed) - 1):
        write_all(tmp_path / "MNIST/raw", {f"{name}.gz": packed[:end]})
        with pytest.raises(DataError, match=f"{name}.gz"):
            load("mnist", tmp_path)


def test_a_gz_that_unpacks_to_too_much(
    mini_mnist: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(archives, "UNPACKED_LIMIT", 2**20)
    files = {f"{n}.gz": gzip.compress(c) for n, c in idx_files(mini_mnist).items()}
    files["t10k-images-idx3-ubyte.gz"] = gzip.compress(bytes(2**24))
    write_all(tmp_path / "MNIST/raw", files)
    with pytest.raises(DataError, match="more than 1,048,576 bytes"):
        load("mnist", tmp_path)


def test_a_foreign_pickle_is_never_run(mini_cifar10: Mini, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "harm"),))

    for name in cifar10s.FILES:
        files = batches(mini_cifar10)
        files[name] = pickle.dumps(Hostile(), protocol=2)
        folder = write_all(tmp_path / "cifar-10-batches-py", files)
        with pytest.raises(DataError, match=f"MD5 expected .* found .*{name}"):
            load("cifar10", tmp_path)
        archive = tmp_path / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, "cifar-10-batches-py")
        for source in (folder, archive):
            with pytest.raises(DataError, match=name):
                import_copy("cifar10", source, tmp_path / "root")
        assert not (tmp_path / "harm").exists()


def test_a_prepared_file_with_pickled_objects(mini_mnist: Mini, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "harm"),))

    path = import_copy("mnist", write_all(tmp_path / "s", mini_mnist.files()), tmp_path)
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **{**content, "test_labels": np.array([Hostile()], object)})
    with pytest.raises(DataError, match=r"cannot read: .*mnist\.npz"):
        load("mnist", tmp_path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match=r"cannot read: .*mnist\.npz"):
        load("mnist", tmp_path)
    assert not (tmp_path / "harm").exists()


def test_prepared_labels_of_another_type(mini_mnist: Mini, tmp_path: Path) -> None:
    path = import_copy("mnist", write_all(tmp_path / "s", mini_mnist.files()), tmp_path)
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **{**content, "test_labels": content["test_labels"].astype(np.float64)})
    with pytest.raises(DataError, match="test_labels is of type float64"):
        load("mnist", tmp_path)


def test_a_damaged_prepared_file(mini_mnist: Mini, tmp_path: Path) -> None:
    """Flipped and cut anywhere, it is refused, or the flip was where nothing of the data is."""
    path = import_copy("mnist", write_all(tmp_path / "s", mini_mnist.files()), tmp_path)
    good = load("mnist", tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    heads = [i for i in range(len(whole)) if whole[i : i + 6] == b"\x93NUMPY"]
    places = [*rng.integers(0, len(whole), 100), *(h + rng.integers(-60, 128) for h in heads * 8)]
    refused = 0
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert_same(load("mnist", tmp_path), good)
        except DataError:
            refused += 1
    assert refused > 100
    for end in rng.integers(0, len(whole), 50):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"mnist\.npz"):
            load("mnist", tmp_path)


def test_an_unreadable_file(
    mini_mnist: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path / "MNIST/raw", idx_files(mini_mnist))

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"Permission denied.*train-images-idx3-ubyte"):
        load("mnist", tmp_path)


def test_a_folder_that_cannot_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    for use in (
        lambda: load("mnist", tmp_path),
        lambda: verify("mnist", tmp_path),
        lambda: import_copy("mnist", tmp_path, tmp_path),
    ):
        with pytest.raises(DataError, match=f"Permission denied.*{tmp_path}"):
            use()
    assert inventory(tmp_path)[0].state == "unreadable"


# --- listing and checking


def test_inventory_and_verify(mini_mnist: Mini, tmp_path: Path, no_network: None) -> None:
    states = {e.name: e.state for e in inventory(tmp_path / "nowhere")}
    assert states == {
        "mnist": "missing", "cifar10": "missing", "digits": "bundled", "folder": "missing",
    }  # fmt: skip
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(DataError, match="no complete copy of mnist"):
        verify("mnist", tmp_path)

    write_all(tmp_path / "MNIST/raw", idx_files(mini_mnist))
    import_copy("mnist", tmp_path, tmp_path)
    write_all(tmp_path, own_images())
    listed = inventory(tmp_path)
    assert [(e.name, e.state, e.train, e.test) for e in listed] == [
        ("mnist", "prepared", 40, 20),
        ("mnist", "raw", 40, 20),
        ("cifar10", "missing", None, None),
        ("digits", "bundled", 1497, 300),
        ("folder", "folder", 20, 6),
    ]
    assert verify("mnist", tmp_path) == listed[:2]
    assert verify("folder", tmp_path)[0].fingerprint == load("folder", tmp_path).fingerprint

    # The second copy is checked too, although `load` would not read it.
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"")
    load("mnist", tmp_path)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        verify("mnist", tmp_path)


def test_the_list_fits_a_terminal_and_knows_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["data", "list"], ["data", "list", "--json"]):  # without data/: nothing yet
        assert main(words) == 0
        said = capsys.readouterr().out
        fingerprint = digits.Digits.known.fingerprint
        assert (fingerprint if "--json" in words else fingerprint[:12]) in said
        assert (fingerprint in said) == ("--json" in words)
    assert main(["data", "list", "--root", "nowhere"]) == 3
    assert "no such folder (nowhere)" in capsys.readouterr().err


def test_inventory_survives_what_is_no_data_set(tmp_path: Path) -> None:
    write_zip(tmp_path / "other.zip", {"notes.txt": b""})
    assert inventory(tmp_path)[-1].state == "missing"
    (tmp_path / "broken.zip").write_bytes(b"PK")
    assert inventory(tmp_path)[-1].state == "unreadable"


def test_unknown_names(tmp_path: Path) -> None:
    for use in (load, fetch, verify):
        with pytest.raises(ConfigError, match=r"unknown dataset 'imagenet': choose one of cifar10"):
            use("imagenet", tmp_path)


# --- the order of training


def test_permutation_is_a_permutation_and_repeats() -> None:
    order = permutation(3, 1, 1000)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(1000))
    permutation(4, 0, 10)
    torch.randn(3)
    assert torch.equal(permutation(3, 1, 1000), order)


def test_permutation_stays_what_it_was() -> None:
    """Runs resume with these orders: they must not change with a version of anything."""
    assert permutation(0, 0, 8).tolist() == [6, 3, 1, 4, 5, 2, 7, 0]
    assert permutation(7, 3, 8).tolist() == [2, 1, 4, 3, 5, 7, 6, 0]


def test_permutations_are_unrelated() -> None:
    """Any two agree in about one place of 1,000, as independent ones do."""
    asked = [(s, e) for s in range(6) for e in range(6)]
    asked += [(2**32, 0), (5 + 7 * 2**32, 0), (2**64 + 1, 0)]
    orders = torch.stack([permutation(s, e, 1000) for s, e in asked])
    for i in range(len(asked)):
        agreements = (orders[i + 1 :] == orders[i]).sum(1)
        assert (agreements < 10).all()


def test_first_places_are_uniform() -> None:
    """Over 5,000 epochs each of 10 images comes first about equally often (chi-square, 99.99 %)."""
    first = torch.stack([permutation(0, epoch, 10)[0] for epoch in range(5000)])
    assert ((first.bincount(minlength=10) - 500.0) ** 2 / 500).sum() < 33.7


def test_permutation_leaves_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    order = permutation(0, 0, 100)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before[1]
    torch.manual_seed(123)
    np.random.seed(123)
    assert torch.equal(permutation(0, 0, 100), order)
