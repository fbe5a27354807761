"""streamer: one-step-ahead forecasts of price vectors, live from Kafka, with their honest error."""

__version__ = "0.1.0"
