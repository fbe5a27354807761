"""The sections that say what is trained, when, how it is judged, and where it is kept."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from streamer.settings.types import (
    DAY,
    Bytes,
    File,
    Reload,
    Seconds,
    Section,
    SigningKey,
    Switch,
    Text,
    conflict,
    expected,
)

_MAX_LAYERS = 8


class Layer(Section):
    """One LSTM layer."""

    units: int = Field(default=32, ge=1, le=4096, description="LSTM units.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of its outputs dropped in training.")


def _stack(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    if not 1 <= len(layers) <= _MAX_LAYERS:
        raise expected(f"1 to {_MAX_LAYERS} layers")
    return layers


Layers = Annotated[tuple[Layer, ...], Field(strict=False), AfterValidator(_stack)]


class Network(Section):
    """The LSTM."""

    mode: Literal["pooled", "joint"] = Field(
        default="pooled",
        description="pooled: one network shared by all symbols; joint: the whole vector in and out.",
    )
    layers: Layers = Field(default=(Layer(),), description="LSTM layers, first to last; 1 to 8.")
    features: Literal["market", "changes"] = Field(
        default="market",
        description="What it sees of each symbol: the market around it too, or its last change alone.",
    )
    embedding: int = Field(default=32, ge=0, le=4096, description="Units of a tanh layer before the LSTM; 0: none.")
    skip: bool = Field(default=True, description="A linear way past the LSTM.")
    members: int = Field(default=2, ge=1, le=16, description="Networks that are averaged, from different seeds.")


class Fit(Section):
    """One training: truncated back-propagation through time over parallel lanes of history."""

    steps: int = Field(default=1200, ge=1, le=10_000_000, description="Gradient steps at most.")
    epochs: int = Field(default=60, ge=0, le=1_000_000, description="Passes over the history at most; 0: any number.")
    sequence: int = Field(default=48, ge=1, le=10_000, description="Ticks that the gradient goes back.")
    lanes: int = Field(default=16, ge=1, le=4096, description="Contiguous pieces of history trained side by side.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Peak of the schedule.")
    beta_2: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="Decay of Adam's mean of squared gradients; less where there is no noise.",
    )
    patience: int = Field(default=8, ge=1, le=10_000, description="Checks without gain before it ends.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Same seed, same data: same weights.")
    refit: bool = Field(default=True, description="Once judged, fit again on all rows.")
    combine: Switch = Field(
        default=True,
        strict=True,
        description="Serve a guarded mix of network, linear experts and last price; off: the bare network.",
    )


class Retrain(Section):
    """When a training is due, on how much, and within which limits."""

    first: int = Field(default=500, ge=1, description="Ticks before the first training.")
    every: int = Field(default=1440, ge=0, description="Ticks from training to training; 0: only on request.")
    drift: float = Field(
        default=50.0,
        ge=0,
        le=1000,
        description="Training out of turn once the loss has risen against persistence's by so much; 0: never.",
    )
    cooldown: int = Field(default=500, ge=0, description="Ticks after a training came due, or a swap, without that.")
    history: int = Field(default=20_000, ge=1, le=10_000_000, description="Ticks that a training sees at most.")
    pool: Annotated[int, Reload.AT_ONCE] = Field(
        default=200_000,
        ge=1_000,
        le=100_000_000,
        description="Ticks of all streams together that a training of a shared model sees at most, their newest; at "
        "least 100 of each.",
    )
    time_limit: Annotated[Seconds, Reload.AT_ONCE] = Field(
        default=900.0, ge=1, le=7 * DAY, description="After this a training is ended."
    )
    memory_limit: Annotated[Bytes, Reload.AT_ONCE] = Field(
        default=4 * 1024**3, ge=256 * 1024**2, description="Data memory of the training process at most."
    )

    @model_validator(mode="after")
    def _history_holds_the_first(self) -> Self:
        if self.history < self.first:
            conflict("history", str(self.history), f"at least retrain.first ({self.first})")
        return self


class Gate(Section):
    """Whether a newly trained model replaces the one that serves."""

    tolerance: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="So much worse than the champion a new model may be; the first must beat persistence.",
    )
    fraction: float = Field(
        default=0.15, gt=0, lt=1, description="Newest share of history, on which the two are compared."
    )
    stop_fraction: float = Field(
        default=0.15, gt=0, lt=1, description="Share before that, which decides when the fit stops."
    )

    @model_validator(mode="after")
    def _leaves_history_to_fit(self) -> Self:
        if self.fraction + self.stop_fraction > 0.8:
            conflict("fraction", str(self.fraction), "at most 0.8 with gate.stop_fraction, to leave a fit")
        return self


class Models(Section):
    """The model store."""

    url: Text = Field(default="models", description="Folder or fsspec URL.")
    sharing: Annotated[Literal["stream", "global"], Reload.AT_ONCE] = Field(
        default="stream",
        description="stream: a model for each stream; global: one for all that have the same symbols, trained on all.",
    )
    keep: Annotated[int, Reload.AT_ONCE] = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Newest models kept per stream, besides that in service and that before.",
    )
    hmac_key: SigningKey | None = Field(
        default=None,
        description="Key that signs the models; with it, an unsigned one is refused unread. Never in the file.",
    )
    hmac_key_file: File | None = Field(default=None, strict=False, description="File that holds hmac_key.")

    @property
    def signing_key(self) -> bytes | None:
        """`hmac_key` as it goes into the HMAC; None where models are not signed."""
        return None if self.hmac_key is None else self.hmac_key.get_secret_value().encode()
