"""Where in MLflow's pages are the runs of a search?"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from nas.store.parameters import part_name
from nas.store.store import SearchRecord
from nas_services.errors import Problem

ANSWER_SECONDS = 5.0
_API = "api/2.0/mlflow"


def runs_address(mlflow_url: str, record: SearchRecord) -> str:
    """The address below `/mlflow/` of a search's parent run, of its experiment until it has one.

    Raises `Problem`: 404 where no MLflow is shown, 503 where it does not answer.
    """
    if not mlflow_url:
        raise Problem(404, "Not Found", "This service shows no MLflow.", kind="no-mlflow")
    name = f"{part_name(record.spec, 'space')}/{part_name(record.spec, 'task')}"
    wanted = f"tags.`nas.kind` = 'search' AND tags.`nas.search_id` = '{record.id}'"
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            answer = client.get(
                f"{mlflow_url}/{_API}/experiments/get-by-name", params={"experiment_name": name}
            )
            if answer.status_code == 404:
                return "/mlflow/"
            experiment = str(_read(answer)["experiment"]["experiment_id"])
            answer = client.post(
                f"{mlflow_url}/{_API}/runs/search",
                json={"experiment_ids": [experiment], "filter": wanted, "max_results": 1},
            )
            runs = _read(answer).get("runs", [])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        detail = "MLflow does not answer; searches go on, and it is kept complete when it is back."
        raise Problem(503, "Service Unavailable", detail, kind="mlflow-unavailable") from error
    address = f"/mlflow/#/experiments/{quote(experiment, safe='')}"
    return f"{address}/runs/{quote(runs[0]['info']['run_id'], safe='')}" if runs else address


def _read(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.raise_for_status().json()
    return found
