"""The engine and its parts: pure and synchronous, numpy only, no I/O and no clock of its own."""
