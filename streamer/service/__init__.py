"""The daemon's surroundings: Kafka, the trainer process, metrics, HTTP, the log."""
