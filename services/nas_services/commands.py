"""How is the service started at a terminal: `nas serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (NAS_HOST; 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 0 for a free one (NAS_PORT; 8080).")
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of the record, supernets and reports (NAS_HOME; ./nas-work)."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster's job server, http://HOST:8265 (RAY_ADDRESS); without one, a Ray "
            "of its own is started."
        ),
    ] = None,
    mlflow: Annotated[
        bool,
        typer.Option(
            help="Show MLflow under /mlflow, from a server of its own unless MLFLOW_TRACKING_URI "
            "is the address of one."
        ),
    ] = True,
    require_tokens: Annotated[
        bool | None,
        typer.Option(help="Answer nobody without a token of `nas token` (NAS_REQUIRE_TOKENS)."),
    ] = None,
) -> None:
    """Start the service: REST API and pages, with Ray and MLflow; Ctrl-C ends all of it."""
    from nas_services.supervisor import serve as serving

    serving(
        typer.echo,
        home=home,
        host=host,
        port=port,
        ray_address=ray_address,
        mlflow=mlflow,
        require_tokens=require_tokens,
    )


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(serve)
