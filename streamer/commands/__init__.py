"""The commands of `streamer`: a module each, with `add_parser` and the handler that it sets.

Their heavy imports are inside the handlers, so that `streamer --help` answers at once.
"""
