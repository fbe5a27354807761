"""Writes REFERENCE.md: `python -m tests.reference`, or scripts/reference."""

from tests.reference.document import PLACE, reference

PLACE.write_text(reference())
