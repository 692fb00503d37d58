"""Poisoned buffers and repeated runs."""

import numpy as np
import pytest

from agl_ref.oracle.kernels import UNWRITTEN, assert_repeatable, assert_written, poison


def in_blocks(x, out, block=4):
    """A kernel that forgets the last, partial block."""
    for start in range(0, x.size // block * block, block):
        out[start : start + block] = 2 * x[start : start + block]


class TestPoison:
    def test_a_kernel_that_forgets_its_tail_is_caught(self):
        x = np.arange(10.0, dtype=np.float32)
        out = poison(np.zeros(10, np.float32))
        in_blocks(x, out)
        with pytest.raises(AssertionError, match=r"out: .*received 2 of 10 .*first at index \(8,\)"):
            assert_written(out=out)

    def test_one_that_writes_everything_is_not(self):
        out = poison(np.zeros(8))
        in_blocks(np.arange(8.0), out)
        assert_written(out=out)

    @pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
    def test_integers(self, dtype):
        out = poison(np.zeros((2, 3), dtype))
        assert (out.view(np.uint8) == UNWRITTEN).all()
        out[0] = 0
        with pytest.raises(AssertionError, match=r"3 of 6 .*index \(1, 0\)"):
            assert_written(out=out)

    def test_strided_views_are_filled_where_they_are(self):
        base = np.zeros((4, 4))
        poison(base[:, ::2])
        assert np.isnan(base[:, ::2]).all() and (base[:, 1::2] == 0).all()

    @pytest.mark.parametrize("bad", [3.0, [0.0], np.zeros(2, complex), np.zeros(2, bool)])
    def test_what_cannot_be_poisoned(self, bad):
        with pytest.raises(TypeError, match="expected"):
            poison(bad)

    def test_no_buffer_is_no_check(self):
        with pytest.raises(ValueError, match="at least one buffer"):
            assert_written()


class TestRepeat:
    def test_the_same_bits_pass_and_come_back(self):
        first = assert_repeatable(lambda: np.arange(3.0), runs=3)
        assert first["output"].tolist() == [0, 1, 2]

    def test_another_order_of_summation_is_found(self):
        terms = np.array([1.0, 2.0**-24, 2.0**-24], np.float32)
        orders = iter([terms, terms, terms[::-1]])
        with pytest.raises(AssertionError, match=r"dw: run 3 differs .* index \(0,\): .*0x1\.0.*0x1\.000002"):
            assert_repeatable(lambda: {"dw": np.add.accumulate(next(orders))[-1:]}, runs=3)

    def test_the_sign_of_zero_counts(self):
        signs = iter([0.0, -0.0])
        with pytest.raises(AssertionError, match="run 2 differs"):
            assert_repeatable(lambda: np.array([next(signs)]), runs=2)

    def test_a_buffer_that_is_reused_does_not_hide_a_change(self):
        out = np.zeros(2)

        def kernel():
            out[0] += 1
            return out

        with pytest.raises(AssertionError, match="run 2"):
            assert_repeatable(kernel, runs=2)

    def test_before_is_called_each_time(self):
        out = np.zeros(2)

        def kernel():
            out[0] += 1
            return out, None

        assert assert_repeatable(kernel, runs=5, before=lambda: out.fill(0))["output 0"].tolist() == [1, 0]

    def test_other_shapes_and_names(self):
        shapes = iter([2, 3])
        with pytest.raises(AssertionError, match=r"run 2 gave float64 \(3,\)"):
            assert_repeatable(lambda: np.zeros(next(shapes)), runs=2)
        names = iter("ab")
        with pytest.raises(AssertionError, match="expected the arrays"):
            assert_repeatable(lambda: {next(names): np.zeros(1)}, runs=2)

    @pytest.mark.parametrize("runs", [1, 2.0, True])
    def test_runs(self, runs):
        with pytest.raises(ValueError, match=">= 2"):
            assert_repeatable(lambda: np.zeros(1), runs=runs)

    def test_nothing_returned(self):
        with pytest.raises(ValueError, match="at least one array"):
            assert_repeatable(lambda: (), runs=2)
