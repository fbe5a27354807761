"""The section `input`: how a record becomes a tick."""

from typing import Literal, Self

from pydantic import Field, model_validator

from streamer.settings.types import DAY, DURATION, Seconds, Section, conflict


class Input(Section):
    """How records become ticks."""

    assemble: Literal["vector", "last"] = Field(
        default="vector",
        description="vector: each message is one vector; last: messages of one step are merged, later prices win.",
    )
    close: Literal["later", "complete"] = Field(
        default="later",
        description="A step closes with the first message of a later one; or as soon as it has all of feed.symbols.",
    )
    close_after: Seconds | None = Field(
        default=None,
        ge=0.001,
        le=365 * DAY,
        description="It closes with a message whose record's timestamp is so long after the step's time, too.",
    )

    @model_validator(mode="after")
    def _closes_what_it_assembles(self) -> Self:
        if self.assemble == "vector" and self.close != "later":
            conflict("close", self.close, "input.assemble: last beside it, as no step stays open without")
        if self.assemble == "vector" and self.close_after is not None:
            found = DURATION.render(self.close_after)
            conflict("close_after", found, "input.assemble: last beside it, as no step stays open without")
        return self

    @property
    def close_after_ms(self) -> int | None:
        """`close_after` in milliseconds."""
        return None if self.close_after is None else round(self.close_after * 1000)
