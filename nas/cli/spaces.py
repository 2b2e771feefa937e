"""`nas spaces`: which search spaces there are, what they hold, whether a file is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.errors import SpecError

if TYPE_CHECKING:
    from nas.space.search_space import SearchSpace

spaces = typer.Typer(help="List, show and check search spaces.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Space = Annotated[str, typer.Argument(help="A space's name, or the path of its YAML file.")]


@spaces.command("list")
def list_spaces(as_json: AsJson = False) -> None:
    """Names and sizes of the spaces that can be used; exit 2 if a file there is none."""
    from nas.space.loader import load_space, space_names

    found, broken = {}, []
    for name in space_names():
        try:
            found[name] = load_space(name)
        except SpecError as error:
            broken.append(str(error))
    if as_json:
        typer.echo(json.dumps([_facts(space) for space in found.values()]))
    else:
        for name, space in found.items():
            typer.echo(f"{name:22} {space.size:.3g} architectures")
    if broken:
        raise SpecError("\n".join(broken))


@spaces.command()
def show(space: Space, as_json: AsJson = False) -> None:
    """A space's choices, exact size and digest."""
    from nas.space.loader import load_space

    found = load_space(space)
    if as_json:
        typer.echo(json.dumps(_facts(found) | {"choices": found.to_json()}))
        return
    typer.echo(f"{found.name}: {found.size} architectures, digest {found.digest}")
    shown = {name: held for name, held in found.to_json().items() if name not in ("name", "kind")}
    lines = [line for name, choices in shown.items() for line in _flat(name, choices)]
    width = max(len(path) for path, _ in lines)
    for path, values in lines:
        typer.echo(f"  {path:{width}}  {json.dumps(values)}")


@spaces.command()
def validate(space: Space, as_json: AsJson = False) -> None:
    """Check a space file; exit 2 with what is wrong and where."""
    from nas.space.loader import load_space

    found = load_space(space)
    typer.echo(
        json.dumps(_facts(found)) if as_json else f"valid: {found.name}, {found.size} architectures"
    )


@spaces.command()
def schema() -> None:
    """The JSON Schema of space files, for editors."""
    from nas.space.loader import space_schema

    typer.echo(json.dumps(space_schema(), indent=2))


def _flat(path: str, choices: Any) -> Iterator[tuple[str, Any]]:
    """Every list of choices with its key path."""
    if not isinstance(choices, dict):
        yield path, choices
        return
    for key, each in choices.items():
        yield from _flat(f"{path}.{key}", each)


def _facts(space: SearchSpace) -> dict[str, Any]:
    return {
        "name": space.name,
        "size": space.size,
        "digest": space.digest,
        "kind": space.kind,
        **{
            stack.path("depth"): list(choices.depth)
            for stack, choices in zip(space.owner.stacks, space.stacks, strict=True)
        },
        "attentions": [str(each) for each in space.all_attentions],
    }


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(spaces, name="spaces")
