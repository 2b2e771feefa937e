"""The digits in memory, and one thread: how many there are decides in what order sums are made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas import catalog
from nas.task.task import ImageData


@pytest.fixture(scope="session")
def data() -> ImageData:
    """Digits with their default split."""
    task = catalog.TASKS.load("digits")
    loaded: ImageData = task.load(task.options_model(), Path("nowhere"))
    return loaded


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The thread count is given back as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
