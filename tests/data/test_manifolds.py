"""Spike times on smooth random manifolds: the formula by loops, one spike a unit, what tells classes apart, errors."""

import json
import math

import numpy as np
import pytest

from agl_ref import cli, data, train
from agl_ref.data.manifolds import TICKS


def test_the_formula_by_loops():
    """Draws in the order of the docstring; alpha = 2 has terms up to k = 31, since 1/32^2 is less than 1/1000."""
    dataset = data.randman(classes=2, units=3, dimension=2, alpha=2.0, train=4, test=2, seed=5)
    frames = np.concatenate([part.frames(TICKS) for part in (dataset.x_train, dataset.x_test)], axis=1)[..., 0, :, 0]
    assert frames.shape == (TICKS, 12, 3) and dataset.y_train.tolist() == [0] * 4 + [1] * 4
    rng = np.random.default_rng(5)
    for rows in ([0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 10, 11]):
        A, B, C = rng.random((3, 3, 2, 31))
        points = rng.random((6, 1, 2))[:, 0]
        f = [[math.prod(sum(A[i, d, k - 1] * math.sin(2 * math.pi * (k * B[i, d, k - 1] * x[d] + C[i, d, k - 1])) / k**2
                            for k in range(1, 32)) for d in range(2)) for i in range(3)] for x in points]  # fmt: skip
        for i in range(3):
            values = [row[i] for row in f]
            ticks = [999 * (v - min(values)) / (max(values) - min(values)) for v in values]
            for n, tick in zip(rows, ticks, strict=True):
                assert abs(frames[:, n, i].argmax() - math.floor(tick + 1e-9)) <= (abs(tick - round(tick)) < 1e-6)


def test_each_unit_fires_once_so_that_rates_say_nothing():
    dataset = data.randman(train=10, test=5)
    assert dataset.image_shape == (1, 20, 1) and dataset.num_classes == 10
    for part, count in ((dataset.x_train, 100), (dataset.x_test, 50)):
        frames = part.frames(50)
        assert frames.shape == (50, count, 1, 20, 1)
        assert (frames.sum(axis=0) == 1).all()
    assert np.bincount(dataset.y_train).tolist() == [10] * 10 and np.bincount(dataset.y_test).tolist() == [5] * 10


def test_times_tell_the_classes_apart():
    """The nearest training sample, by spike times, has the right class: chance would be 0.1."""
    dataset = data.randman()
    train_t, test_t = (part.frames(TICKS)[:, :, 0, :, 0].argmax(axis=0) for part in (dataset.x_train, dataset.x_test))
    nearest = [np.abs(train_t - t).sum(axis=1).argmin() for t in test_t]
    assert (dataset.y_train[nearest] == dataset.y_test).mean() > 0.95


def test_the_same_seed_gives_the_same_times_and_options_stand_in_the_name():
    first = data.load("randman:units=7,alpha=1,train=3,test=2,seed=4,classes=3,dimension=2")
    again = data.randman(classes=3, units=7, dimension=2, alpha=1, train=3, test=2, seed=4)
    assert first.fingerprint() == again.fingerprint() != data.randman(3, 7, 2, 1, 3, 2, seed=5).fingerprint()
    assert data.load("randman").fingerprint() == data.randman().fingerprint()


@pytest.mark.parametrize(("name", "words"), [
    ("randman:alpha", "expected alpha as a number, received ''"), ("randman:units=x", "expected units as a number"),
    ("randman:speed=2", "expected options among classes, units, .* received 'speed'"),
    ("randman:units=3,units=4", "units twice"),
    ("randman:alpha=0", "alpha: expected"), ("randman:classes=1", "classes: expected an integer >= 2"),
])  # fmt: skip
def test_errors_name_the_option(name, words):
    with pytest.raises(ValueError, match=words):
        data.load(name)


def test_smoothness_lessens_with_alpha():
    """Neighbours on the curve have nearer spike times where alpha is larger."""

    def distance(alpha):
        dataset = data.randman(classes=2, train=100, alpha=alpha)
        t = dataset.x_train.frames(TICKS)[:, :100, 0, :, 0].argmax(axis=0)
        apart = np.abs(t[:, None] - t[None]).sum(axis=2) + 10**6 * np.eye(100, dtype=int)
        return apart.min(axis=1).mean()

    assert distance(3) < distance(1) / 2


def test_the_command_trains_on_it_and_resumes(tmp_path, capsys, undrawn):
    folder = tmp_path / "run"
    name = "randman:classes=3,units=6,train=20,test=10"
    argv = ["train", "--data", name, "--network", "fc_snn", "--channels", "9", "--decay", "0.9", "--T", "12"]
    assert cli.main([*argv, "--epochs", "2", "--batch", "20", "--out", str(folder), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["layers"]) == {"hidden1"}
    assert train.open_run(folder).dataset.fingerprint() == data.load(name).fingerprint()
    assert cli.main(["inspect", name, "--network", "fc_snn", "--T", "12"]) == 0
    said = capsys.readouterr().out
    assert "recordings of events, 1 x 6 pixels, 1 channels" in said and "events 6 to 6" in said
