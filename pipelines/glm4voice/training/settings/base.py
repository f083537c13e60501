"""The base of every section of a training file: frozen, strict, nothing unknown."""

from pydantic import BaseModel, ConfigDict


class StrictSettings(BaseModel):
    """A section of a training file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
