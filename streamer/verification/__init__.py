"""Published forecasts computed again from the input topic and the model store, and compared: `streamer verify`."""
