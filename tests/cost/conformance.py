"""What does every cost model promise? Proved on one by a subclass for exact or measured ones."""

import math
import subprocess
import sys

import pytest
import torch

from nas import catalog
from nas.cost.cost import Candidate, CostModel
from nas.model.network import StandaloneNetwork
from nas.search.workload import Workload
from nas.space.architecture import Architecture
from nas.space.gene import End
from nas.space.loader import load_space
from nas.space.task_shape import ImageShape
from tests.space.spaces import SMALL

SHAPE = ImageShape(side=8, channels=1, classes=10)
SPACE = load_space("digits_tiny")
WORKLOAD = Workload(batch=2, warmup=1, repetitions=3)
ENDS: tuple[End, ...] = ("smallest", "largest")
ARCHITECTURES = tuple(SPACE.extreme(end, choice) for end in ENDS for choice in SPACE.all_attentions)


class CostConformance:
    """A subclass sets `name`; it inherits one of the two classes below, not this one."""

    name: str

    @pytest.fixture
    def model(self) -> CostModel:
        declared: CostModel = catalog.COSTS.load(self.name)
        return declared

    def test_the_declaration_loads_no_torch(self) -> None:
        check = (
            "import sys; from nas import catalog; "
            f"catalog.COSTS.load({self.name!r}).metric; print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert (done.stdout.strip(), done.returncode) == ("False", 0), done.stderr

    def test_it_is_called_as_its_metric_and_no_task_has_that(self, model: CostModel) -> None:
        assert model.metric.name == self.name
        assert model.metric.direction in {"minimize", "maximize"}
        assert model.metric.unit
        for task in catalog.TASKS.names():
            assert self.name not in {each.name for each in catalog.TASKS.load(task).metrics}

    @pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.id)
    def test_a_figure_is_finite_and_details_have_names_of_their_own(
        self, model: CostModel, architecture: Architecture
    ) -> None:
        figure = model.figure(candidate_of(architecture))
        assert all(math.isfinite(each) for each in (figure.value, *figure.details.values()))
        taken = {*catalog.COSTS.names()}
        for task in catalog.TASKS.names():
            taken |= {each.name for each in catalog.TASKS.load(task).metrics}
        assert not taken & set(figure.details)


class ExactCostConformance(CostConformance):
    """An exact cost is a pure function of the architecture, and its bounds are what they say."""

    def test_it_is_analytic_and_of_no_machine(self, model: CostModel) -> None:
        assert model.metric.analytic
        figure = model.figure(Candidate(ARCHITECTURES[0], SHAPE))
        assert (figure.machine, dict(figure.details)) == ("", {})

    def test_it_needs_no_network_and_keeps_nothing_in_mind(self, model: CostModel) -> None:
        plain = [Candidate(each, SHAPE, WORKLOAD) for each in ARCHITECTURES]
        forward = [model.figure(each) for each in plain]
        assert forward == [model.figure(each) for each in plain[::-1]][::-1]
        assert forward == [model.figure(candidate_of(each)) for each in ARCHITECTURES]

    @pytest.mark.parametrize("name", sorted(SMALL))
    def test_bounds_are_those_of_the_enumeration(self, model: CostModel, name: str) -> None:
        space = SMALL[name]
        every = [model.figure(Candidate(each, SHAPE)).value for each in space.enumerate()]
        bounds = [model.bound(space, SHAPE, end) for end in ENDS]
        assert bounds in ([min(every), max(every)], [None, None])


class MeasuredCostConformance(CostConformance):
    """A measured cost says where it was taken and leaves all that it was lent as it was."""

    def test_it_is_not_analytic_and_claims_no_bound(self, model: CostModel) -> None:
        assert not model.metric.analytic
        assert [model.bound(SPACE, SHAPE, end) for end in ENDS] == [None, None]

    def test_a_figure_says_in_one_line_where_it_was_taken(self, model: CostModel) -> None:
        machine = model.figure(candidate_of(ARCHITECTURES[0])).machine
        assert len(machine.splitlines()) == 1
        assert machine == model.figure(candidate_of(ARCHITECTURES[1])).machine

    def test_network_and_process_are_left_as_they_were(self, model: CostModel) -> None:
        network = StandaloneNetwork(ARCHITECTURES[0], SHAPE).train()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        threads, state = torch.get_num_threads(), torch.get_rng_state()
        model.figure(Candidate(ARCHITECTURES[0], SHAPE, WORKLOAD, lambda: network))
        assert network.training
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[name])
            assert tensor.dtype == before[name].dtype
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.is_inference_mode_enabled()


def candidate_of(architecture: Architecture) -> Candidate:
    """The architecture with a network that can be had."""
    return Candidate(architecture, SHAPE, WORKLOAD, lambda: StandaloneNetwork(architecture, SHAPE))
