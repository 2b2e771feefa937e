"""How are weights learnt? One resumable loop for supernets and stand-alone networks."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from nas.errors import TrainingDiverged
from nas.model.network import Network
from nas.model.slots import Slot
from nas.search.recipe import TrainingRecipe
from nas.task.splits import keyed_seed
from nas.task.task import Batch, Data
from nas.train import checkpoint
from nas.train.checkpoint import State
from nas.train.precision import autocast, precision_for

REPORT_EVERY = 10
# However long its steps take, a stopped run loses little more: every slice of some minutes counts.
CHECKPOINT_SECONDS = 120.0
WAIT_SECONDS = 1.0

Forward = Callable[..., Tensor]
"""The network's class scores in float32, computed in the run's precision."""

Losses = Callable[[int, Forward, Batch], Iterator[Tensor]]
"""(step, forward, batch) to the step's losses, one a net; their gradients are summed."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    `step` steps of `steps` are done; `loss` is the mean over those since the report before (a net
    that distils counts with its divergence from the largest), `seconds` the time spent training,
    earlier attempts included. `saved` is the checkpoint of this step where it is on disk, so that
    the run can be left here; `stopped` says why it ended early, `waiting` for what nothing is done
    now. `facts` are what whoever trains found out on the way, by name.
    """

    step: int
    steps: int
    loss: float
    seconds: float
    saved: Path | None = None
    stopped: str = ""
    waiting: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class Watch(Protocol):
    """Looks at the network at intervals and may end the training; what it saw is checkpointed."""

    def due(self, step: int) -> bool:
        """Whether to look after this many steps."""

    def look(
        self, forward: Forward, history: tuple[Mapping[str, Any], ...]
    ) -> tuple[Mapping[str, Any], str]:
        """A JSON record of what is seen now, and the reason to stop or an empty text.

        `forward` is the network in eval mode, `history` the records before.
        """


@dataclass(frozen=True)
class Run:
    """What is trained, on what, under which name.

    `identity` holds the digests that a checkpoint must carry to be resumed, `params` the number of
    parameters that the precision rule goes by. After `limit` seconds of this attempt the run ends.
    A checkpoint carries `about`, for who uses the weights elsewhere. After `until` steps (None: all
    of the recipe's) the run is saved and left there, unfinished, for another one to go on with.
    """

    network: Network
    losses: Losses
    data: Data
    recipe: TrainingRecipe
    seed: int
    file: Path
    identity: Mapping[str, str]
    params: int
    watch: Watch | None = None
    limit: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    until: int | None = None


def train(run: Run, device: torch.device | str) -> Generator[Progress]:
    """Trains, or goes on where the checkpoint stands; reports every 10 steps and when it saved.

    It saves every `checkpoint_every` steps, and at a report two minutes after it last did.

    Every draw is a function of (seed, step), so a resumed run has the losses and, on a CPU with as
    many threads, the weights of an undisturbed one bit by bit. Where another process trains into
    the same file, it reports that process's steps and takes over what that leaves.

    Raises:
        CheckpointError: the checkpoint is another run's or cannot be read or written.
        TrainingDiverged: a loss or gradient is not finite; the last checkpoint is from before.
    """
    begun = time.perf_counter()
    with checkpoint.exclusive(run.file) as is_ours:
        while not is_ours():
            step = checkpoint.read_state(run.file, run.identity).step if run.file.exists() else 0
            text = "another process trains it"
            yield Progress(step, run.recipe.steps, math.nan, 0.0, waiting=text)
            time.sleep(WAIT_SECONDS)
        yield from _train(run, torch.device(device), begun)


def _train(run: Run, device: torch.device, begun: float) -> Iterator[Progress]:
    recipe = run.recipe
    network, data = run.network.to(device).train(), run.data.to(device)
    network.dropout = recipe.dropout
    optimizer = optimizer_for(network, recipe)
    state = _resumed(run, optimizer, device)
    goal = recipe.steps if run.until is None else min(run.until, recipe.steps)
    if state.complete or state.step >= goal:
        yield Progress(state.step, recipe.steps, state.loss, state.seconds, run.file, state.stopped)
        return

    def forward(*inputs: Any) -> Tensor:
        with autocast(state.precision, device):
            scores: Tensor = network(*inputs)
        return scores.float()

    pending: list[Tensor] = []
    resumed_at, spent = time.perf_counter(), state.seconds
    saved_at = resumed_at
    for step in range(state.step, goal):
        pending.append(_step(run, data, optimizer, forward, step))
        done = step + 1
        stopped = ""
        if run.watch is not None and run.watch.due(done):
            network.eval()
            seen, reason = run.watch.look(forward, state.history)
            network.train()
            state = replace(state, history=(*state.history, seen))
            stopped = reason if done < recipe.steps else ""
        if run.limit is not None and time.perf_counter() - begun > run.limit and not stopped:
            stopped = "the time budget is spent" if done < recipe.steps else ""
        ended = done == recipe.steps or bool(stopped)
        reporting = done % REPORT_EVERY == 0
        # At a report alone, so that the clock decides no step over which a loss is averaged.
        overdue = reporting and time.perf_counter() - saved_at >= CHECKPOINT_SECONDS
        leaving = ended or done == goal
        saving = leaving or overdue or done % recipe.checkpoint_every == 0
        if saving or reporting:
            loss = _mean_loss(pending, done)
            pending.clear()
            seconds = spent + time.perf_counter() - resumed_at
            state = replace(
                state, step=done, loss=loss, seconds=seconds, complete=ended, stopped=stopped
            )
            if saving:
                checkpoint.write(run.file, _tensors(network, None if ended else optimizer), state)
                saved_at = time.perf_counter()
            saved = run.file if saving else None
            yield Progress(done, recipe.steps, loss, seconds, saved, stopped)
            # The caller's time between reports is not training.
            spent, resumed_at = seconds, time.perf_counter()
        if leaving:
            return


def _step(
    run: Run, data: Data, optimizer: torch.optim.Optimizer, forward: Forward, step: int
) -> Tensor:
    """One update; the nets' mean loss and the gradient's norm, unread: no GPU is waited for."""
    recipe = run.recipe
    batch = data.training_batch(step, recipe, run.seed)
    losses = []
    with _drawing(run, step):
        # Each net's backward before the next forward: activations of one net at a time.
        for loss in run.losses(step, forward, batch):
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
    trained = [each for group in optimizer.param_groups for each in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    optimizer.step()
    # None instead of zeros: AdamW then leaves alone what the next step does not sample.
    optimizer.zero_grad(set_to_none=True)
    return torch.stack([torch.stack(losses).mean(), norm])


@contextlib.contextmanager
def _drawing(run: Run, step: int) -> Iterator[None]:
    """Dropout's draws are a function of (seed, step); nobody else's random numbers change."""
    if not run.recipe.dropout:
        yield
        return
    device = next(run.network.parameters()).device
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        # Of this device alone: torch.manual_seed would set those of all GPUs.
        own = torch.cuda.default_generators[device.index] if on_gpu else torch.default_generator
        own.manual_seed(keyed_seed("dropout", run.seed, step))
        yield


def learning_rate(recipe: TrainingRecipe, step: int) -> float:
    """Linear warm-up to the peak, then half a cosine down to zero at `steps`."""
    warmup = min(recipe.warmup_steps, recipe.steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    part = (step - warmup) / (recipe.steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


def optimizer_for(network: Network, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019); maps decay; norms, biases, tables and tokens do not."""
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for slot in network.modules():
        if isinstance(slot, Slot):
            for name, declared in slot.declared.items():
                parameter = cast(nn.Parameter, getattr(slot, name))
                groups[declared.init != "linear"].append(parameter)
    decays, rests = groups
    return torch.optim.AdamW(
        [
            {"params": decays, "weight_decay": recipe.weight_decay},
            {"params": rests, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        fused=True,
    )


def _mean_loss(pending: list[Tensor], done: int) -> float:
    values = torch.stack(pending).tolist()
    for step, (loss, norm) in enumerate(values, start=done - len(values) + 1):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"at step {step} of training the loss is {loss} and its gradient's norm {norm}; a "
                "lower learning_rate, a longer warmup_steps or precision float32 may help"
            )
    return float(sum(loss for loss, _ in values) / len(values))


# -- checkpoints -----------------------------------------------------------------------------------


MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""What AdamW keeps of a parameter that was trained."""


def _order(network: Network, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters in the order in which the optimizer numbers them."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[each] for group in optimizer.param_groups for each in group["params"]]


def _tensors(network: Network, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """Weights, and per trained parameter AdamW's two moments and its count of updates."""
    tensors = {f"weight/{name}": each.detach() for name, each in network.named_parameters()}
    if optimizer is not None:
        order = _order(network, optimizer)
        for number, held in optimizer.state_dict()["state"].items():
            tensors |= {f"{part}/{order[number]}": each for part, each in held.items()}
    return tensors


def _resumed(run: Run, optimizer: torch.optim.Optimizer, device: torch.device) -> State:
    """Loads what the checkpoint holds, or makes a fresh state with the precision decided on."""
    checkpoint.remove_leftovers(run.file)
    if not run.file.exists():
        precision = precision_for(run.recipe, run.params, device)
        return State(dict(run.identity), precision, about=run.about)
    tensors, state = checkpoint.read(run.file, run.identity)
    checkpoint.fill(run.network, tensors.pop, run.file)
    numbers = {name: i for i, name in enumerate(_order(run.network, optimizer))}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        moments.setdefault(numbers.get(name, -1), {})[part] = tensor
    if -1 in moments or any(set(held) != MOMENTS for held in moments.values()):
        raise checkpoint.misfit(run.file, "the optimizer's tensors are others")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return state
