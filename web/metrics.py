"""`GET /metrics` and `/observability/metrics`: HTTP metrics of all workers, and the ETL's from the tables."""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_flask_exporter import PrometheusMetrics  # type: ignore[import-untyped]
from pydantic import Field
from werkzeug.routing import Rule

from shared.errors import DatabaseError, SchemaError
from sql import queries
from web.access import latency_ms, request_id, this_request
from web.db import rows
from web.endpoints import Answer, answered, endpoint
from web.errors import note_outage
from web.etl_metrics import EtlMetrics
from web.state import state

blueprint = Blueprint("metrics", __name__)

TEXT = ("text/plain", "application/openmetrics-text")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
SECONDS, TOTAL = "flask_http_request_duration_seconds", "flask_http_request_total"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics(PrometheusMetrics):  # type: ignore[misc]
    """The exporter, but that it looks a series up once and not in every request, which took a fifth of what a kept page costs.

    Without its gauge about itself, which would be one more series for every worker there ever was.
    """

    def export_defaults(self, **_options: Any) -> None:
        """Time and count every request, under the names that the exporter gives."""
        by_route, by_status = ("method", "route", "status"), ("method", "status")
        seconds = Histogram(SECONDS, "Flask HTTP request duration in seconds", by_route, buckets=BUCKETS, registry=self.registry)
        total = Counter(TOTAL, "Total number of HTTP requests", by_status, registry=self.registry)

        @cache
        def series(method: str, route: str, status: int) -> tuple[Histogram, Counter]:
            return seconds.labels(method, route, status), total.labels(method, status)

        def count(response: Response) -> Response:
            asked = this_request()
            duration, requests = series(known(asked.method), route(asked.url_rule), response.status_code)
            duration.observe(latency_ms() / 1000)
            requests.inc()
            return response

        self.app.after_request(count)


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
    HttpMetrics(app, path=None, registry=registry)


def route(rule: Rule | None) -> str:
    """The pattern that served a request, so that neither ids nor unknown paths make new series."""
    return rule.rule if rule else "unknown"


def known(method: str) -> str:
    """The method of a request; those that HTTP does not know count as one."""
    return method if method in METHODS else "OTHER"


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
    response = Response(encode(all_metrics()), content_type=content_type)
    response.vary.add("Accept")
    return response


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
            request_id=request_id(), api_latency_ms=latency_ms(), database_connected=connected, metrics=metrics, rate_limiting=budgets
        )
    )
