"""Registers: the codes of an excited voice are others than those of a plain one.

Codes that were learned for what is said keep hardly any pitch. So a tokenizer may learn a second
register of them, the raised one: each code once more, all moved by one and the same step in the
direction in which codes differ least. What an excited voice says is to fall there and everything
else where it fell before. Whoever knows the codes goes on from what it knows of each, moved by one
step in the same way: what tells the registers apart is then learned from all codes at once.
"""

import torch
from torch import Tensor

_SAME = 0.02  # of the step: files keep codes in half precision


def with_raised(codes: Tensor) -> Tensor:
    """Codes [K, D] and those of the raised register, [2 K, D]; code k is raised to K + k."""
    apart = codes.float() - codes.float().mean(dim=0)
    least = torch.linalg.svd(apart, full_matrices=False).Vh[-1]
    step = least * apart.square().sum(dim=1).mean().sqrt()  # as far as codes are from their mean
    return torch.cat([codes, codes + step.to(codes.dtype)])


def raising_step(codes: Tensor) -> Tensor | None:
    """How the raised register [D] lies to the other; None where the codes [K, D] have but one."""
    if len(codes) % 2:
        return None
    plain, raised = codes.float().chunk(2)
    steps = raised - plain
    step = steps.mean(dim=0)
    is_one_step = (steps - step).norm(dim=1).max() <= _SAME * step.norm()
    return step if is_one_step and step.norm() > 0 else None


def grown(known: Tensor, n_codes: int) -> Tensor:
    """What a model knows of each code, [K, D], for `n_codes`: as it is, or `with_raised`.

    Raises ValueError where these are neither as many nor twice as many.
    """
    if n_codes not in (len(known), 2 * len(known)):
        raise ValueError(f"{len(known)} codes are known, which cannot become {n_codes}")
    return known if n_codes == len(known) else with_raised(known)
