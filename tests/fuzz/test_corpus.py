"""What the fuzzer begins with, and what it has found, without the fuzzer."""

import pytest

from tests.fuzz.corpus import seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_keeps_the_promise(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)
