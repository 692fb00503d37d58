"""Plausible bugs of tdBN, convolution, linear layers, pools, residual sums and losses; see `agl_ref.oracle.mutants.bugs`."""

import numpy as np

from .bugs import THREADS, bug
from .candidate import Candidate

# --- tdBN -------------------------------------------------------------------------------------------------------------


@bug("statistics-per-timestep")
class _StatisticsPerTimestep(Candidate):
    """tdBN takes its statistics at each timestep alone, as a plain batch norm called T times does."""

    def mean(self, a):
        axes = range(1, a.ndim - 1)
        mean = self.sum(a, axes) / self.dtype.type(a[0].size // a.shape[-1])
        return mean.reshape(len(a), *[1] * (a.ndim - 2), -1)


@bug("evaluation-uses-batch")
class _EvaluationUsesBatch(Candidate):
    """tdBN takes the batch's statistics in evaluation too."""

    def norm_forward(self, x, gamma, beta, v_th, alpha=1.0, eps=1e-5, running=None):
        y, fwd = super().norm_forward(x, gamma, beta, v_th, alpha, eps)
        return y, fwd._replace(training=running is None)


@bug("norm-mean-term-dropped")
class _MeanTermDropped(Candidate):
    """tdBN's backward does not subtract mean(g)."""

    def norm_means(self, g, x_hat):
        return super().norm_means(g, x_hat) - self.mean(g)


@bug("norm-variance-term-dropped")
class _VarianceTermDropped(Candidate):
    """tdBN's backward does not subtract x_hat mean(g x_hat)."""

    def norm_means(self, g, x_hat):
        return self.mean(g)


@bug("norm-statistics-detached")
class _StatisticsDetached(Candidate):
    """tdBN's backward takes mean and variance for constants."""

    def norm_means(self, g, x_hat):
        return np.zeros_like(g)


@bug("norm-eps-outside-root")
class _EpsOutsideRoot(Candidate):
    """tdBN divides by sqrt(var) + eps instead of sqrt(var + eps)."""

    def inverse_std(self, var, eps):
        return 1 / (np.sqrt(var) + self.dtype.type(eps))


@bug("norm-threshold-after-affine")
class _ThresholdAfterAffine(Candidate):
    """tdBN's factor alpha V_th multiplies beta too: it is applied after the affine map."""

    def norm_forward(self, x, gamma, beta, v_th, alpha=1.0, eps=1e-5, running=None):
        scaled = (beta * self.norm_scale(v_th, alpha)).astype(self.dtype)
        return super().norm_forward(x, gamma, scaled, v_th, alpha, eps, running)


@bug("norm-gamma-gradient-unscaled")
class _GammaGradientUnscaled(Candidate):
    """tdBN's dgamma lacks alpha V_th."""

    def norm_backward(self, dy, fwd):
        dx, dgamma, dbeta = super().norm_backward(dy, fwd)
        return dx, dgamma / self.dtype.type(fwd.scale), dbeta


@bug("norm-input-gradient-unscaled")
class _InputGradientUnscaled(Candidate):
    """tdBN's dx lacks alpha V_th."""

    def norm_backward(self, dy, fwd):
        dx, dgamma, dbeta = super().norm_backward(dy, fwd)
        return dx / self.dtype.type(fwd.scale), dgamma, dbeta


@bug("norm-gamma-gradient-mean")
class _GammaGradientMean(Candidate):
    """tdBN's dgamma and dbeta are means over the channel's values instead of sums."""

    def norm_backward(self, dy, fwd):
        dx, dgamma, dbeta = super().norm_backward(dy, fwd)
        count = self.dtype.type(dy.size // dy.shape[-1])
        return dx, dgamma / count, dbeta / count


# --- convolution and linear -------------------------------------------------------------------------------------------


@bug("kernel-flipped-in-backward")
class _FlippedInBackward(Candidate):
    """The gradient of a convolution's input is taken with the kernel flipped once too often."""

    def transposed_weight(self, weight):
        return weight[::-1, ::-1]


@bug("kernel-flipped")
class _Flipped(Candidate):
    """The forward pass convolves with the flipped kernel instead of correlating."""

    def conv_forward(self, x, weight, bias=None, stride=1, padding=0):
        return super().conv_forward(x, weight[::-1, ::-1], bias, stride, padding)


@bug("kernel-transposed")
class _Transposed(Candidate):
    """The kernel's rows and columns are exchanged."""

    def conv_forward(self, x, weight, bias=None, stride=1, padding=0):
        return super().conv_forward(x, weight.swapaxes(0, 1), bias, stride, padding)


@bug("padding-side")
class _PaddingSide(Candidate):
    """All zeros of the padding are put after the image and none before, as some "same" paddings do."""

    def pads(self, padding):
        return 0, 2 * padding


@bug("one-block-weight-sum")
class _OneBlockWeightSum(Candidate):
    """A weight's gradient is summed over the first 1024 output positions only: one thread block."""

    def dweight(self, rows, dy):
        return super().dweight(rows[:THREADS], dy[:THREADS])


@bug("weight-gradient-misses-last-row")
class _MissesLastRow(Candidate):
    """A weight's gradient misses the last term of its sum."""

    def dweight(self, rows, dy):
        return super().dweight(rows[:-1], dy[:-1])


@bug("bias-gradient-mean")
class _BiasGradientMean(Candidate):
    """A bias's gradient is the mean over its terms instead of their sum."""

    def conv_backward(self, dy, x, weight, stride=1, padding=0):
        dx, dweight, dbias = super().conv_backward(dy, x, weight, stride, padding)
        return dx, dweight, dbias / self.dtype.type(dy.size // dy.shape[-1])

    def linear_backward(self, dy, x, weight):
        dx, dweight, dbias = super().linear_backward(dy, x, weight)
        return dx, dweight, dbias / self.dtype.type(dy.size // dy.shape[-1])


# --- pools, residual sum, flatten -------------------------------------------------------------------------------------


@bug("pool-gradient-undivided")
class _PoolUndivided(Candidate):
    """The average pool's backward gives the whole gradient, not a quarter, to each of the four inputs."""

    def pool_backward(self, dy, shape):
        return 4 * super().pool_backward(dy, shape)


@bug("pool-gradient-shifted")
class _PoolShifted(Candidate):
    """With an odd number of rows the average pool's backward leaves out the first row instead of the last."""

    def pool_backward(self, dy, shape):
        dx = super().pool_backward(dy, shape)
        return np.roll(dx, (shape[-3] % 2, shape[-2] % 2), axis=(-3, -2))


@bug("pool-of-maximum")
class _PoolOfMaximum(Candidate):
    """The 2x2 pool takes the maximum instead of the mean."""

    def pool_forward(self, x):
        rows, columns = x.shape[-3] // 2, x.shape[-2] // 2
        squares = x[..., : 2 * rows, : 2 * columns, :].reshape(*x.shape[:-3], rows, 2, columns, 2, x.shape[-1])
        return squares.max(axis=(-4, -2))


@bug("global-pool-gradient-undivided")
class _GlobalPoolUndivided(Candidate):
    """The global pool's backward does not divide by height times width."""

    def global_pool_backward(self, dy, shape):
        return np.broadcast_to(dy[..., None, None, :], shape).copy()


@bug("shortcut-gradient-dropped")
class _ShortcutDropped(Candidate):
    """A residual sum gives no gradient to its shortcut."""

    def side_gradient(self, dy):
        return np.zeros_like(dy)


@bug("residual-or")
class _ResidualOr(Candidate):
    """A residual sum of two spikes is one spike: OR instead of ADD."""

    def add(self, y, side):
        return np.minimum(super().add(y, side), self.dtype.type(1))


@bug("flatten-channels-first")
class _FlattenChannelsFirst(Candidate):
    """Flatten puts channels before height and width, while the weight expects them last."""

    def flatten(self, x):
        return super().flatten(np.moveaxis(x, -1, 2))

    def unflatten(self, d, shape):
        T, N, H, W, C = shape
        return np.moveaxis(d.reshape(T, N, C, H, W), 2, -1)


# --- losses -----------------------------------------------------------------------------------------------------------


@bug("loss-summed-over-samples")
class _LossSummed(Candidate):
    """The loss and its gradient are sums over the samples: the mean over N is forgotten."""

    def samples(self, N):
        return self.dtype.type(1)


@bug("time-mean-not-in-backward")
class _TimeMeanNotInBackward(Candidate):
    """The mean over time is taken forward, but the gradient is not divided by T."""

    def share_over_time(self, dz, T):
        dlogits = super().share_over_time(dz, T)
        return dlogits * self.dtype.type(T) if self.conventions.readout == "mean" else dlogits


@bug("softmax-overflows")
class _SoftmaxOverflows(Candidate):
    """The softmax does not subtract the largest logit first, so that large ones overflow."""

    def softmax(self, z):
        with np.errstate(over="ignore", invalid="ignore"):
            exp = np.exp(z)
            norm = self.sum(exp, (-1,))[..., None]
            return exp / norm, z - np.log(norm)


@bug("labels-from-one")
class _LabelOffByOne(Candidate):
    """Labels are taken to count from 1."""

    def cross_entropy(self, logits, labels):
        return super().cross_entropy(logits, np.asarray(labels) - 1)

    def tet(self, logits, labels, lam=1e-3, target=1.0):
        return super().tet(logits, np.asarray(labels) - 1, lam, target)


@bug("tet-regulariser-missing")
class _TetRegulariserMissing(Candidate):
    """TET's pull of the logits to one target is left out of the gradient."""

    def tet(self, logits, labels, lam=1e-3, target=1.0):
        loss, _ = super().tet(logits, labels, lam, target)
        return loss, super().tet(logits, labels, 0.0, target)[1] * self.dtype.type(1 - lam)
