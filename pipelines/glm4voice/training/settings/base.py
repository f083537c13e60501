"""What sections of a training file have in common: frozen, strict, nothing unknown in them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SpeakerSpread = Annotated[float, Field(ge=0, le=0.5)]  # callers are played so much faster, slower


class StrictSettings(BaseModel):
    """A section of a training file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
