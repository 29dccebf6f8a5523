"""What leads from one answer to the next request: the links of the OpenAPI document. Pure."""

from __future__ import annotations

from typing import Any

BODY = "$response.body#"
LINKS: dict[str, dict[str, tuple[str, dict[str, str]]]] = {
    "list_data": {
        "Record": ("show_record", {"number": f"{BODY}/data/0/id"}),
        "Lineage": ("show_lineage", {"number": f"{BODY}/data/0/id"}),
        "History": ("show_history", {"source": f"{BODY}/data/0/source", "external_id": f"{BODY}/data/0/external_id"}),
        "Next": ("list_data", {"cursor": f"{BODY}/paging/next_cursor"}),
    },
    "show_record": {"Lineage": ("show_lineage", {"number": f"{BODY}/data/id"})},
    "show_lineage": {"Run": ("get_run", {"run_id": f"{BODY}/data/run/id"})},
    "list_runs": {
        "Run": ("get_run", {"run_id": f"{BODY}/data/0/id"}),
        "Comparison": ("compare_runs", {"a": f"{BODY}/data/1/id", "b": f"{BODY}/data/0/id"}),
    },
    "get_run": {
        "Quarantine": ("list_quarantine", {"run_id": f"{BODY}/id"}),
        "Drift": ("list_drift", {"run_id": f"{BODY}/id"}),
    },
    "list_quarantine": {"Run": ("get_run", {"run_id": f"{BODY}/data/0/run_id"})},
    "list_drift": {"Run": ("get_run", {"run_id": f"{BODY}/data/0/run_id"})},
    "queue_runs": {"Run": ("get_run", {"run_id": f"{BODY}/runs/0/id"})},
}
"""By operation and name: the operation that goes on, and where its parameters stand in the answer. Of lists, the first entry is meant."""


def links_of(operation: str) -> dict[str, Any]:
    """The links of an operation's answer, as a member of it where there are any."""
    found = {name: {"operationId": leads, "parameters": given} for name, (leads, given) in LINKS.get(operation, {}).items()}
    return {"links": found} if found else {}
