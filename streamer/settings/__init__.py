"""What can be configured: every key with its type, default, bounds and meaning.

Pure data, no I/O: `streamer.config` reads it from files and the environment and words the errors.
"""

from streamer.settings.calendar import Calendar
from streamer.settings.input import Fields, Input, Output, Registry
from streamer.settings.kafka import Kafka, Topics
from streamer.settings.learning import Fit, Gate, Layer, Models, Network, Retrain
from streamer.settings.root import Daemon, Feed, Http, Interval, Limits, Log, Scoring, Settings, State, Streams
from streamer.settings.security import Security

__all__ = [
    "Calendar",
    "Daemon",
    "Feed",
    "Fields",
    "Fit",
    "Gate",
    "Http",
    "Input",
    "Interval",
    "Kafka",
    "Layer",
    "Limits",
    "Log",
    "Models",
    "Network",
    "Output",
    "Registry",
    "Retrain",
    "Scoring",
    "Security",
    "Settings",
    "State",
    "Streams",
    "Topics",
]
