"""Styles and their names."""

from pipelines.glm4voice.training.style import STYLE_NAMED, STYLES, Style


def test_each_style_has_a_name_of_its_own() -> None:
    """Nine styles, nine names; what does not stand out is not named."""
    assert len(STYLE_NAMED) == len(STYLES) == 9
    assert Style().name == "neutral"
    assert Style(rate="slow").name == "slow"
    assert Style(emotion="excited", rate="fast").name == "excited-fast"


def test_slower_and_faster_go_one_rate_on() -> None:
    """Slow cannot get slower, nor fast faster; the emotion stays."""
    assert Style(emotion="calm", rate="fast").slower() == Style(emotion="calm")
    assert Style().slower().slower() == Style(rate="slow")
    assert Style().faster().faster() == Style(rate="fast")
