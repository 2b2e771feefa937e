"""How is a search told to who asks for it: its state, its history, what may be done with it?"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nas.search.trial import ROLES, TrialRole
from nas.store.parameters import part_name
from nas.store.serving import Attempt, Desired, TrialRow, Wish
from nas.store.store import TERMINAL, Event, SearchRecord, SearchState, Spend
from nas_services import schemas
from nas_services.schemas import Verb

API = "/api/v1"
"""What the addresses of all resources begin with."""
CONDITION_KINDS = ("search.created", "search.state", "search.desired")
WANTED: Mapping[Verb, Desired] = {"pause": "pause", "resume": "run", "cancel": "cancel"}
"""What is wanted of a search after each verb."""
# As a search's fact says how far its supernet is trained.
_TRAINED = re.compile(r"(\d+) of (\d+)")


def shown_state(record: SearchRecord, wish: Wish, *, begun: bool) -> SearchState:
    """The state as the API has it; `begun` says whether an attempt to run the search is open."""
    if record.state not in TERMINAL and wish.desired == "cancel":
        return "cancelling"
    return "provisioning" if record.state == "queued" and begun else record.state


def allowed_verbs(record: SearchRecord, wish: Wish) -> list[Verb]:
    """The verbs that change something now."""
    if record.state in TERMINAL or wish.desired == "cancel":
        return []
    return ["resume" if wish.desired == "pause" else "pause", "cancel"]


def links(id: str) -> dict[str, str]:
    """Where a search and what belongs to it are found."""
    own = f"{API}/searches/{id}"
    below = ("trials", "pareto", "pareto/history", "pareto.html", "fidelity", "artifacts")
    names = {each: each.replace("/", "_").replace(".", "_") for each in below}
    found = {"self": own, **{name: f"{own}/{path}" for path, name in names.items()}}
    return {**found, "events": f"{own}/events", "logs": f"{own}/logs", "page": f"/searches/{id}"}


def search_shown(
    record: SearchRecord, wish: Wish, *, begun: bool, counts: Mapping[TrialRole, int]
) -> schemas.SearchShown:
    """A search as a list shows it; `counts` are its trials by role."""
    spec = record.spec
    return schemas.SearchShown(
        id=record.id,
        name=record.name,
        owner=wish.owner,
        state=shown_state(record, wish, begun=begun),
        desired=wish.desired,
        phase=record.phase,
        task=part_name(spec, "task"),
        space=part_name(spec, "space"),
        objectives=[str(each) for each in spec.get("objectives", ())],
        created=record.created,
        updated=max(record.updated, wish.changed),
        error=record.error,
        warm_start=record.warm_start,
        progress=_progress(record, counts),
        links=links(record.id),
    )


def search_detail(
    record: SearchRecord,
    wish: Wish,
    *,
    attempts: Sequence[Attempt],
    counts: Mapping[TrialRole, int],
    events: Iterable[Event],
    spent: Mapping[str, Spend],
    home: str,
) -> schemas.SearchDetail:
    """A search with its history; `events` are those of `CONDITION_KINDS`, `home` its folder."""
    begun = bool(attempts) and attempts[-1].ended is None
    shown = search_shown(record, wish, begun=begun, counts=counts)
    return schemas.SearchDetail(
        **shown.model_dump(),
        spec=record.spec,
        facts=record.facts,
        allowed=allowed_verbs(record, wish),
        conditions=conditions(events, attempts),
        attempts=[
            schemas.AttemptShown(
                number=each.number,
                job=each.job,
                started=each.started,
                ended=each.ended,
                outcome=each.outcome,
            )
            for each in attempts
        ],
        spent={phase: schemas.SpendShown(**asdict(each)) for phase, each in spent.items()},
        commands=commands(record, home),
    )


def _progress(record: SearchRecord, counts: Mapping[TrialRole, int]) -> dict[str, Any]:
    spec = record.spec
    budget = spec.get("budget", {}).get("trials")
    random = spec.get("controls", {}).get("random")
    planned = {"search": budget, "random": budget if random is None else random}
    found: dict[str, Any] = {
        role: schemas.RoleProgress(done=counts.get(role, 0), planned=planned.get(role))
        for role in ROLES
        if counts.get(role) or role == "search"
    }
    if trained := _TRAINED.match(record.facts.get("supernet_steps", "")):
        done, steps = (int(each) for each in trained.groups())
        return {"supernet": schemas.RoleProgress(done=done, planned=steps), **found}
    return found


def conditions(events: Iterable[Event], attempts: Iterable[Attempt]) -> list[schemas.Condition]:
    """The history of a search's states, each with its reason, in the order of time."""
    moments: list[tuple[str, int, str, Mapping[str, Any]]] = []
    for event in events:
        moments.append((event.time, 1, event.kind, event.data))
    for each in attempts:
        told = {"number": each.number, "job": each.job, "outcome": each.outcome}
        moments.append((each.started, 0, "attempt.began", told))
        if each.ended is not None:
            moments.append((each.ended, 2, "attempt.ended", told))
    found: list[schemas.Condition] = []
    state: SearchState = "queued"
    phase = ""
    # At one moment an attempt begins before it changes a state, and ends after that.
    for time, _, kind, data in sorted(moments, key=lambda each: each[:2]):
        before = state, phase
        if kind == "search.state":
            state, phase = data.get("state", state), data.get("phase", phase)
        elif kind == "search.desired" and data["desired"] == "cancel" and state not in TERMINAL:
            state = "cancelling"
        elif kind == "attempt.began" and state == "queued":
            state = "provisioning"
        reason = _reason(kind, data, before, (state, phase))
        found.append(schemas.Condition(time=time, state=state, phase=phase, reason=reason))
    return found


def _reason(
    kind: str, data: Mapping[str, Any], before: tuple[str, str], now: tuple[str, str]
) -> str:
    match kind:
        case "search.created":
            return "submitted"
        case "search.desired":
            verbs = {desired: verb for verb, desired in WANTED.items()}
            return f"{verbs.get(data['desired'], data['desired'])} was asked for"
        case "attempt.began":
            return f"attempt {data['number']} began as job {data['job']}"
        case "attempt.ended":
            return f"attempt {data['number']} ended: {data['outcome']}"
    if data.get("error"):
        return str(data["error"])
    if now[1] != before[1]:
        return f"phase {now[1]}"
    return f"from {before[0]} to {now[0]}" if now[0] != before[0] else "taken up again"


def commands(record: SearchRecord, home: str) -> dict[str, str]:
    """Lines for a terminal on the machine of the record that take up what a search found."""
    at = f" --home {shlex.quote(home)}"
    task = record.spec.get("task", {})
    task = task if isinstance(task, Mapping) else {"name": task}
    options = "".join(
        f" --option {shlex.quote(f'{name}={json.dumps(value)}')}"
        for name, value in task.get("options", {}).items()
    )
    best = f"nas pareto {record.id} --best{at} > best.json"
    found = {
        "front": f"nas pareto {record.id}{at}",
        "best": best,
        "cost": f"{best} && nas cost best.json --task {task.get('name', '')}{options}",
        "warm_start": f"nas search SPEC.yaml --warm-start {record.id}{at}",
    }
    if record.state == "succeeded":
        found["confirm"] = f"nas confirm {record.id}{at}"
    return found


# -- trials ----------------------------------------------------------------------------------------


def trial_shown(search: str, row: TrialRow) -> schemas.TrialShown:
    """A trial as it goes over the wire."""
    return schemas.TrialShown(
        id=f"{search}.{row.role}.{row.index}",
        search=search,
        role=row.role,
        index=row.index,
        state=row.state,
        reason=row.reason,
        label=row.label,
        metrics=dict(row.metrics),
        seconds=row.seconds,
        time=row.time,
        architecture_id=row.architecture_id,
        architecture=dict(row.architecture),
    )
