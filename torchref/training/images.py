"""Losses of images and of masks; torch has none of them. Channels are on axis 1."""

import torch
from torch.nn.functional import conv2d

from torchref.training.losses import binary_cross_entropy_with_logits, reduce

__all__ = ["focal", "dice", "ssim"]


def focal(
    outputs: torch.Tensor,
    targets: torch.Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """Cross entropy of logits, times alpha_t (1 - p_t)^gamma: what is easy counts for little.

    p_t is the probability of the target and alpha_t is alpha at 1, 1 - alpha at 0.

    Args:
      outputs: logits, any shape.
      targets: probabilities in [0, 1], the same shape and dtype.
      alpha: weight of the positive class; None weighs neither.
      gamma: 0 is cross entropy.
      reduction: as in `reduce`. torchvision: "none" is its default.

    Reference:
      Lin et al., Focal Loss for Dense Object Detection, 2017, https://arxiv.org/abs/1708.02002
    """
    p = torch.sigmoid(outputs)
    wrong = targets * torch.sigmoid(-outputs) + (1 - targets) * p  # 1 - p_t
    values = binary_cross_entropy_with_logits(outputs, targets, reduction="none") * wrong**gamma
    if alpha is not None:
        values = values * (alpha * targets + (1 - alpha) * (1 - targets))
    return reduce(values, reduction)


def dice(
    outputs: torch.Tensor, targets: torch.Tensor, smooth: float = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    """1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth): how far two masks overlap.

    The sums run over the pixels of one mask.

    Args:
      outputs: probabilities p (N, C, ...).
      targets: masks t or probabilities, the same shape.
      smooth: makes the loss of two empty masks 0.
      reduction: as in `reduce`; "none" gives (N, C).

    Raises:
      ValueError: if the shapes differ.

    Reference:
      Milletari et al., V-Net, 2016, https://arxiv.org/abs/1606.04797 (with squares below).
    """
    if outputs.shape != targets.shape:
        raise ValueError(f"targets of {tuple(targets.shape)} for outputs of {tuple(outputs.shape)}")
    pixels = tuple(range(2, outputs.ndim))
    overlap, both = (outputs * targets).sum(pixels), (outputs + targets).sum(pixels)
    return reduce(1 - (2 * overlap + smooth) / (both + smooth), reduction)


def ssim(
    outputs: torch.Tensor, targets: torch.Tensor, data_range: float = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    """1 - the structural similarity of two images, the mean over its map of windows and channels.

    (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2)), with the mean m,
    the variance s^2 and the covariance s_xy under a Gaussian window of 11 pixels, sigma 1.5;
    c1 = (0.01 data_range)^2, c2 = (0.03 data_range)^2. Windows lie inside of the image.

    Args:
      outputs, targets: images (N, C, H, W) of one shape, H and W at least 11.
      data_range: largest less smallest possible value.
      reduction: as in `reduce`; "none" gives (N,).

    Raises:
      ValueError: if the shapes differ, or an image is smaller than its window.

    Reference:
      Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.
    """
    x, y = outputs, targets
    if x.shape != y.shape or min(x.shape[2:]) < 11:
        shapes = tuple(x.shape), tuple(y.shape)
        raise ValueError(f"outputs and targets of {shapes}: one shape of 11 x 11 or more")
    offsets, c = torch.arange(-5, 6, dtype=x.dtype, device=x.device), x.shape[1]
    window = torch.softmax(-(offsets**2) / (2 * 1.5**2), 0)
    kernel = torch.outer(window, window).repeat(c, 1, 1, 1)
    moments = conv2d(torch.cat([x, y, x * x, y * y, x * y]), kernel, groups=c)
    m_x, m_y, e_xx, e_yy, e_xy = moments.chunk(5)
    s_xx, s_yy, s_xy = e_xx - m_x * m_x, e_yy - m_y * m_y, e_xy - m_x * m_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * m_x * m_y + c1) * (2 * s_xy + c2)
    below = (m_x * m_x + m_y * m_y + c1) * (s_xx + s_yy + c2)
    return reduce(1 - (above / below).mean((1, 2, 3)), reduction)
