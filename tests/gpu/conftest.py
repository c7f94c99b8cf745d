"""What holds for the tests of a GPU, and for no others."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_gpu() -> None:
    """In place of the fixture that hides the GPU."""
