"""The codes of a raised voice beside those of a plain one."""

import pytest
import torch
from torch import Tensor

from pipelines.glm4voice.training.registers import grown, raising_step, with_raised


def codes_of(n_codes: int = 24, width: int = 12) -> Tensor:
    """Codes that hardly differ in one direction."""
    codes = torch.randn(n_codes, width, generator=torch.Generator().manual_seed(0))
    codes[:, 3] *= 0.01
    return codes


def test_all_codes_are_raised_by_one_step_where_they_hardly_differ() -> None:
    """The step is as long as codes are apart, in the direction that tells them apart the least."""
    codes = codes_of()
    both = with_raised(codes)
    step = raising_step(both)

    assert step is not None
    assert torch.equal(both[:24], codes)
    torch.testing.assert_close(both[24:], codes + step)
    assert step[3].abs() / step.norm() > 0.99
    assert step.norm() > (codes - codes.mean(dim=0)).norm(dim=1).median() / 2


def test_a_vector_that_is_raised_falls_to_the_raised_code() -> None:
    """Whatever a vector fell to, its raised one falls to the code of the same sound."""
    codes = codes_of()
    both = with_raised(codes)
    step = raising_step(both)
    vectors = torch.randn(200, 12, generator=torch.Generator().manual_seed(1))
    vectors[:, 3] *= 0.01
    plain = torch.cdist(vectors, codes).argmin(dim=1)

    assert torch.equal(torch.cdist(vectors, both).argmin(dim=1), plain)
    assert torch.equal(torch.cdist(vectors + step, both).argmin(dim=1), plain + 24)


def test_files_in_half_precision_are_known_again() -> None:
    """Rounding does not hide the step."""
    both = with_raised(codes_of() * 30).half().float()

    assert raising_step(both) is not None


@pytest.mark.parametrize("codes", [codes_of(24), codes_of(23), torch.ones(4, 3)])
def test_codes_of_one_register_have_no_step(codes: Tensor) -> None:
    """Neither any codes, nor an odd number of them, nor the same ones twice."""
    assert raising_step(codes) is None


def test_what_is_known_of_codes_grows() -> None:
    """For as many codes it stays, for twice as many there is a raised one of each."""
    known = torch.arange(6.0).view(3, 2)

    assert torch.equal(grown(known, 3), known)
    assert torch.equal(grown(known, 6), with_raised(known))
    with pytest.raises(ValueError, match="3 codes are known, which cannot become 7"):
        grown(known, 7)
