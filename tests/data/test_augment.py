"""Augmentation: by hand, against a loop, as a pure function of images and rng; in training, the same bits after a stop."""

import dataclasses

import numpy as np
import pytest

from agl_ref import data, train


class Drawn(np.random.Generator):
    """A generator whose integers are given beforehand."""

    def __init__(self, *rows):
        super().__init__(np.random.PCG64(0))
        self.rows = list(rows)

    def integers(self, low, high, size):
        row = np.array(self.rows.pop(0))
        assert row.shape == (size if isinstance(size, tuple) else (size,)) and (low <= row).all() and (row < high).all()
        return row


def test_crops_and_mirrors_by_hand():
    x = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3, 1).repeat(4, axis=0)  # 1 2 3 / 4 5 6, four times
    corners = [[1, 0, 2, 1], [1, 0, 1, 2]]  # (1, 1) is the image unmoved
    y = data.crop_flip(x, Drawn(corners, [0, 0, 0, 1]), padding=1)[..., 0]
    assert y.tolist() == [
        [[1, 2, 3], [4, 5, 6]],
        [[0, 0, 0], [0, 1, 2]],  # moved down and right
        [[4, 5, 6], [0, 0, 0]],  # moved up
        [[0, 3, 2], [0, 6, 5]],  # moved left, then mirrored
    ]
    assert y.dtype == np.uint8


def one_by_one(images, seed, padding):
    """The same in loops over pixels."""
    rng = np.random.default_rng(seed)
    N, H, W, C = images.shape
    top, left = rng.integers(0, 2 * padding + 1, (2, N))
    mirror = rng.integers(0, 2, N)
    out = np.zeros_like(images)
    for n in range(N):
        for i in range(H):
            for j in range(W):
                row, column = i + top[n] - padding, (W - 1 - j if mirror[n] else j) + left[n] - padding
                if 0 <= row < H and 0 <= column < W:
                    out[n, i, j] = images[n, row, column]
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_it_is_what_loops_give_and_depends_on_images_and_rng_alone(dtype):
    x = np.random.default_rng(1).integers(1, 256, (40, 7, 5, 3)).astype(dtype)
    kept = x.copy()
    y = data.crop_flip(x, 9)
    np.testing.assert_array_equal(y, one_by_one(x, 9, 4))
    np.testing.assert_array_equal(x, kept)
    assert y.dtype == dtype and y.flags.c_contiguous and not np.shares_memory(x, y)
    np.testing.assert_array_equal(data.crop_flip(x, np.random.default_rng(9)), y)
    assert not np.array_equal(data.crop_flip(x, 10), y)


def test_every_shift_and_both_sides_occur_and_no_padding_only_mirrors():
    x = np.zeros((4000, 9, 9, 1), np.uint8)
    x[:, 4, 4] = 1
    y = data.crop_flip(x, 0)[..., 0]
    place = np.argwhere(y)[:, 1:]
    assert len(place) == 4000 and {tuple(p) for p in place} == {(i, j) for i in range(9) for j in range(9)}
    x[:, 4, 4], x[:, 4, 3] = 0, 1
    flat = data.crop_flip(x, 0, padding=0)[:, 4, :, 0]
    assert {tuple(np.flatnonzero(row)) for row in flat} == {(3,), (5,)}
    assert 0.45 < flat[:, 5].mean() < 0.55


@pytest.mark.parametrize(("arguments", "kind"), [
    ((np.zeros((1, 2, 3)), 0), ValueError), ((np.zeros((1, 2, 2, 1), int), 0), TypeError),
    ((np.zeros((1, 2, 2, 1)), None), TypeError), ((np.zeros((1, 2, 2, 1)), 0, -1), ValueError),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments, kind):
    with pytest.raises(kind, match="expected .* received"):
        data.crop_flip(*arguments)


# --- in training ------------------------------------------------------------------------------------------------------

CONFIG = train.TrainConfig(channels=(3,), T=1, epochs=2, batch=7, augment="crop-flip", dtype="float64")


def colours(channels=3):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 8, 8, channels), np.uint8)
    return data.Dataset("colours", x, np.arange(20) % 4, x[:6], np.arange(6) % 4, 4)


def seen_by_steps(monkeypatch):
    """Makes `Trainer.step` note the images it was given; returns the list of them."""
    seen, original = [], train.Trainer.step

    def noting(self, images, labels, rng):
        seen.append(images)
        return original(self, images, labels, rng)

    monkeypatch.setattr(train.Trainer, "step", noting)
    return seen


def test_training_images_alone_are_augmented_by_seed_epoch_and_batch(tmp_path, monkeypatch):
    seen, dataset = seen_by_steps(monkeypatch), colours()
    run = train.Trainer(CONFIG, tmp_path / "run", dataset).fit(progress=False)
    expected = [
        data.crop_flip(dataset.x_train[index], np.random.default_rng([0, epoch, batch, 3]))
        for epoch in range(2)
        for batch, index in enumerate(data.batches(20, 7, 0, epoch))
    ]
    assert len(seen) == len(expected) == 6
    for received, wanted in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(received, wanted)
    x = run.encode(dataset.x_test, None)
    np.testing.assert_array_equal(
        x[0], data.standardise(dataset.x_test, *data.channel_statistics(dataset.x_train), float)
    )
    assert run.evaluate()["test_accuracy"] == run.metrics()[-1]["test_accuracy"]


def test_without_augmentation_the_images_come_as_they_are(tmp_path, monkeypatch):
    seen, dataset = seen_by_steps(monkeypatch), colours()
    train.Trainer(dataclasses.replace(CONFIG, augment="none", epochs=1), tmp_path / "run", dataset).fit(progress=False)
    np.testing.assert_array_equal(seen[1], dataset.x_train[data.batches(20, 7, 0, 0)[1]])


def test_an_augmented_run_stopped_inside_an_epoch_ends_with_the_same_bits(tmp_path, monkeypatch):
    whole = train.Trainer(CONFIG, tmp_path / "whole", colours()).fit(progress=False)
    plain = train.Trainer(dataclasses.replace(CONFIG, augment="none"), tmp_path / "plain", colours()).fit(
        progress=False
    )
    original = train.Trainer.step

    def stopping(self, *arguments):
        if (self.epoch, self.batch) == (1, 1):
            self.save()
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(train.Trainer, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train.Trainer(CONFIG, tmp_path / "cut", colours()).fit(progress=False)
    monkeypatch.setattr(train.Trainer, "step", original)
    cut = train.Trainer(CONFIG, tmp_path / "cut", colours(), start="resume")
    assert (cut.epoch, cut.batch) == (1, 1)
    cut.fit(progress=False)
    for name, array in whole.net.parameters().items():
        assert cut.net.parameters()[name].tobytes() == array.tobytes(), name
        assert plain.net.parameters()[name].tobytes() != array.tobytes(), name


def test_the_official_constants_standardise(tmp_path):
    run = train.Trainer(dataclasses.replace(CONFIG, normalise="cifar10"), tmp_path / "run", colours())
    x = np.full((1, 8, 8, 3), 51, np.uint8)  # 51 / 255 is 0.2
    expected = [(0.2 - 0.4914) / 0.2023, (0.2 - 0.4822) / 0.1994, (0.2 - 0.4465) / 0.2010]
    np.testing.assert_allclose(run.encode(x, None)[0, 0, 0, 0], expected, rtol=1e-15)


@pytest.mark.parametrize(("channels", "encoding"), [(1, "direct"), (3, "rate")])
def test_the_official_constants_are_refused_where_they_mean_nothing(tmp_path, channels, encoding):
    config = dataclasses.replace(CONFIG, normalise="cifar10", encoding=encoding)
    with pytest.raises(ValueError, match=f"normalise: expected 'data' .* {channels} channels encoded {encoding}"):
        train.Trainer(config, tmp_path / "run", colours(channels))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", [{"augment": "flip"}, {"normalise": "mean"}, {"binning": "frames"}])
def test_unknown_choices_are_refused(change):
    with pytest.raises(ValueError, match="expected one of"):
        dataclasses.replace(CONFIG, **change)
