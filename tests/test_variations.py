"""Training images varied: what each variation does, and of what it is a function."""

import pytest
import torch
from torch import Tensor

from bnrepro.data import Augmentation, augmentation, batches, permutation

N = 400


def drawn(
    seed: int = 3, epoch: int = 5, n: int = N, flip: bool = False, shift: int = 0, by: float = 0.0
) -> Augmentation:
    found = augmentation(seed, epoch, n, flip=flip, shift=shift, distortion=by)
    assert found is not None
    return found


def images(n: int = N, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, 5, 6, generator=torch.Generator().manual_seed(1))


ALL = torch.arange(N)


def test_without_augmentation_nothing_is_drawn() -> None:
    assert augmentation(0, 0, N, flip=False, shift=0, distortion=0.0) is None


def test_half_of_the_images_are_flipped_and_nothing_else() -> None:
    before, varied = images(), drawn(flip=True)
    after = varied.apply(before, ALL)
    flipped = varied.flipped
    assert 0.4 < flipped.double().mean() < 0.6
    assert torch.equal(after[flipped], before[flipped].flip(3))
    assert torch.equal(after[~flipped], before[~flipped])


@pytest.mark.parametrize("flip", [False, True])
def test_a_shift_is_padding_and_cropping(flip: bool) -> None:
    before, varied = images(), drawn(shift=2, flip=flip)
    after = varied.apply(before, ALL)
    assert {tuple(move.tolist()) for move in varied.shifted} == {
        (down, right) for down in range(-2, 3) for right in range(-2, 3)
    }
    for row in range(0, N, 7):
        down, right = varied.shifted[row].tolist()
        image = before[row].flip(2) if varied.flipped[row] else before[row]
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        expected = padded[:, 2 - down : 2 - down + 5, 2 - right : 2 - right + 6]
        assert torch.equal(after[row], expected)


def test_a_shift_wider_than_the_image_leaves_nothing_of_it() -> None:
    after = drawn(shift=50).apply(images(), ALL)
    assert bool((after.flatten(1) == 0).all(1).any())


def test_distortion_changes_saturation_contrast_and_brightness_by_its_factors() -> None:
    before, varied = images(), drawn(by=0.4)
    after = varied.apply(before, ALL)
    for values, middle in ((varied.saturation, 1), (varied.contrast, 1), (varied.brightness, 0)):
        assert 0.6 < (values - middle).abs().max() / 0.4 <= 1
        assert abs((values - middle).mean()) < 0.06
    grey, grey_after = before.mean(1), after.mean(1)
    factor = (varied.contrast * varied.saturation).view(-1, 1, 1, 1)
    assert torch.allclose(after - grey_after[:, None], factor * (before - grey[:, None]), atol=1e-6)
    contrast = varied.contrast.view(-1, 1, 1)
    mean, mean_after = (each.mean((1, 2), keepdim=True) for each in (grey, grey_after))
    assert torch.allclose(grey_after - mean_after, contrast * (grey - mean), atol=1e-6)
    assert torch.allclose((mean_after - mean).flatten(), varied.brightness, atol=1e-6)


def test_a_grey_image_has_no_saturation_to_distort() -> None:
    before, varied = images(channels=1), drawn(by=0.3)
    expected = before.mean((1, 2, 3), keepdim=True)
    contrast, brightness = (each.view(-1, 1, 1, 1) for each in (varied.contrast, varied.brightness))
    expected = expected + contrast * (before - expected) + brightness
    assert torch.allclose(varied.apply(before, ALL), expected, atol=1e-6)


def test_augmentation_depends_on_seed_epoch_and_image_number_only() -> None:
    before = images()
    everything = drawn(flip=True, shift=1, by=0.2).apply(before, ALL)
    rows = permutation(1, 1, N)[:32]
    few = drawn(flip=True, shift=1, by=0.2, n=N + 9).apply(before[rows], rows)
    assert torch.equal(few, everything[rows])
    for other in ({"seed": 4}, {"epoch": 6}):
        varied = drawn(flip=True, shift=1, by=0.2, **other)  # type: ignore[arg-type]
        assert not torch.equal(varied.apply(before, ALL), everything)
        assert (
            abs(torch.corrcoef(torch.stack([varied.contrast, drawn(by=0.2).contrast]))[0, 1]) < 0.2
        )


def test_the_input_is_not_changed() -> None:
    before = images()
    kept = before.clone()
    drawn(flip=True, shift=2, by=0.4).apply(before, ALL)
    assert torch.equal(before, kept)


# Batches


def test_shuffled_examples_are_the_order_cut_up() -> None:
    found = batches(2, 3, 101, 10, together=False)
    assert torch.equal(torch.cat(found), permutation(2, 3, 101))
    assert [len(batch) for batch in found] == [10] * 10 + [1]


def test_batches_kept_together_change_places_only() -> None:
    first, later = (batches(2, epoch, 101, 10, together=True) for epoch in (0, 3))
    assert {tuple(batch.tolist()) for batch in first} == {tuple(batch.tolist()) for batch in later}
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in later]
    assert sorted(torch.cat(later).tolist()) == list(range(101))
    other = batches(4, 3, 101, 10, together=True)
    assert {tuple(batch.tolist()) for batch in other} != {tuple(batch.tolist()) for batch in later}
