"""Models: parameter counts of the paper's networks, shapes, refusals."""

import numpy as np
import pytest

import agl_ref as agl


def count(net):
    return sum(p.size for p in net.parameters().values())


def test_sew_resnet19_has_the_official_number_of_parameters():
    assert count(agl.models.sew_resnet19(dtype=np.float32)) == 12_698_260


def test_vgg_snn_has_the_official_number_of_parameters():
    assert count(agl.models.vgg_snn(dtype=np.float32)) == 9_268_754


@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_narrow_paper_networks_run_forward_and_backward(neuron):
    rng = np.random.default_rng(0)
    for net, shape in (
        (agl.models.sew_resnet19(channels=(4, 8, 8), hidden=8, neuron=neuron, image_size=8), (2, 2, 8, 8, 3)),
        (agl.models.vgg_snn(channels=(4, 4, 8, 8), image_size=16, neuron=neuron), (2, 2, 16, 16, 2)),
    ):
        result = net.loss_and_grads(2 * rng.standard_normal(shape), np.array([1, 2]))
        assert result.logits.shape == (2, 2, 10)
        assert all(np.isfinite(g).all() for g in result.grads.values())
        assert all(0 < cache.s.mean() < 1 for _, cache in result.trace.items())
        assert np.abs(result.grads["conv1.weight"]).max() > 0


def test_plif_starts_at_the_leak_that_was_asked_for():
    for plif in ("tau", "1 - tau"):
        conventions = agl.Conventions(plif=plif)
        net = agl.models.conv_snn(neuron="plif", decay=0.3, conventions=conventions)
        assert dict(net.blocks())["conv1"].neuron.decay(conventions) == pytest.approx(0.3, rel=1e-15)


def test_seeds_decide_the_weights():
    a, b, c = (agl.models.conv_snn(seed=s).parameters() for s in (0, 0, 1))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["conv2.weight"], c["conv2.weight"])


@pytest.mark.parametrize("options", [{"neuron": "izhikevich"}, {"channels": ()}, {"channels": (0,)}, {"dtype": np.int32},
                                     {"dtype": np.float16}, {"decay": 1.5}, {"v_th": 0.0}, {"seed": -1},
                                     {"surrogate": "none"}, {"conventions": "mpd-agl"}, {"image_size": 0},
                                     {"image_size": (8, 0)}, {"image_size": (8, 8, 1)}, {"image_size": 8.0},
                                     {"neuron": "plif", "decay": 1.0}])  # fmt: skip
def test_bad_options_are_refused(options):
    with pytest.raises((ValueError, TypeError), match="expected .* received"):
        agl.models.conv_snn(**options)


def test_wrong_number_of_widths_is_refused():
    with pytest.raises(ValueError, match="channels: expected 4 items, received 2"):
        agl.models.vgg_snn(channels=(1, 2))
    with pytest.raises(ValueError, match="channels: expected 3 items, received 2"):
        agl.models.sew_resnet19(channels=(1, 2))
    with pytest.raises(ValueError, match="image_size: expected an integer >= 16"):
        agl.models.vgg_snn(image_size=8)
