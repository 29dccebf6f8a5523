"""`GET /metrics` and `/observability/metrics`: HTTP metrics of all workers, and the ETL's from the tables."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_flask_exporter import PrometheusMetrics  # type: ignore[import-untyped]
from pydantic import Field

from shared.errors import DatabaseError, SchemaError
from sql import queries
from web.access import latency_ms
from web.db import rows
from web.endpoints import Answer, answered, endpoint
from web.errors import note_outage
from web.etl_metrics import EtlMetrics
from web.state import state

blueprint = Blueprint("metrics", __name__)

TEXT = ("text/plain", "application/openmetrics-text")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics(PrometheusMetrics):  # type: ignore[misc]
    """The exporter without its gauge about itself, which would be one more series for every worker there ever was."""

    def info(self, *_args: Any, **_labels: Any) -> None:
        """Export nothing."""


class SampleAnswer(Answer):
    """One value of a metric."""

    name: str
    labels: dict[str, str]
    value: float


class MetricAnswer(Answer):
    """One metric with all its values."""

    type: str
    help: str
    samples: list[SampleAnswer]


class RateLimitingAnswer(Answer):
    """How much of a source's budget of calls is used in its present period."""

    calls_per_period: int | None
    period_seconds: float | None
    current_calls: int


class MetricsAnswer(Answer):
    """Every metric of /metrics, and the budgets of calls to upstreams."""

    request_id: str
    api_latency_ms: float
    database_connected: bool
    metrics: dict[str, MetricAnswer]
    rate_limiting: dict[str, RateLimitingAnswer] = Field(description="empty when no source made a call, or the database does not answer")


def install(app: Flask) -> None:
    """Count and time every request; across workers when gunicorn's configuration named a folder for that."""
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]  # its module was imported before that folder was known
    app.extensions["http_metrics"] = registry = CollectorRegistry()
    HttpMetrics(app, path=None, registry=registry, group_by=route, buckets=BUCKETS)
    app.after_request(bound_method)


def route(_request: Any) -> str:
    """The pattern that served a request, so that neither ids nor unknown paths make new series."""
    return request.url_rule.rule if request.url_rule else "unknown"


def bound_method(response: Response) -> Response:
    """Let methods that HTTP does not know count as one. Runs before the metrics are written: hooks run last one first."""
    if request.method not in METHODS:
        request.method = "OTHER"
    return response


def all_metrics() -> CollectorRegistry:
    """The HTTP metrics of every worker and the ETL's."""
    registry: CollectorRegistry = CollectorRegistry()
    if values.ValueClass is values.MutexValue:
        registry.register(current_app.extensions["http_metrics"])
    else:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(EtlMetrics(state().reader, state().settings.etl_interval_minutes))
    return registry


@blueprint.get("/metrics")
@endpoint("Metrics for Prometheus", produces=TEXT)
def get_metrics() -> Response:
    """Answer in the text format the scraper asks for; without a database, what needs none."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(all_metrics()), content_type=content_type)


@blueprint.get("/observability/metrics")
@endpoint("Metrics for Prometheus, as /metrics", produces=TEXT)
def get_observability_metrics() -> Response:
    """Answer as /metrics does."""
    return get_metrics()  # type: ignore[no-any-return]


@blueprint.get("/observability/metrics/json")
@endpoint("The metrics as JSON, and the budgets of calls to upstreams", answer=MetricsAnswer)
def get_metrics_json() -> Response:
    """Answer every metric with its values; without a database, what needs none."""
    metrics = {
        family.name: MetricAnswer(
            type=family.type,
            help=family.documentation,
            samples=[SampleAnswer(name=each.name, labels=each.labels, value=each.value) for each in family.samples],
        )
        for family in all_metrics().collect()
    }
    budgets, connected = {}, True
    try:
        for row in rows(state().reader, queries["list_rate_limits"]):
            budgets[row["source"]] = RateLimitingAnswer.model_validate(row)
    except (DatabaseError, SchemaError) as error:
        note_outage(error)
        connected = isinstance(error, SchemaError)
    return answered(
        MetricsAnswer(
            request_id=g.request_id, api_latency_ms=latency_ms(), database_connected=connected, metrics=metrics, rate_limiting=budgets
        )
    )
