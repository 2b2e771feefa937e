"""One real supernet on digits and the score of every architecture that it holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas.run.evaluate import Evaluator, Setup, train
from nas.run.tabular import Table, enumerated
from tests.method.table import request


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """The request with its supernet trained; one thread, which decides in what order sums go."""
    before = torch.get_num_threads()
    folder: Path = tmp_path_factory.mktemp("method")
    made = Setup.of(request(), folder / "supernet", folder / "standalone", folder)
    for _ in train(made):
        pass
    yield made
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def table(setup: Setup) -> Table:
    """Every architecture of the space, scored by its slice on all held-out images."""
    return enumerated(Evaluator(setup))
