"""The OpenAPI document, compared with what the server does."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
ROUTES = {"/v1/chat/completions", "/v1/models", "/v1/caption", "/v1/change_map", "/v1/frames", "/v1/info"}


@pytest.mark.parametrize("path", sorted(ROUTES | {"/v1/models/{model}", "/healthz", "/readyz"}))
def test_the_server_does_what_its_document_says(live, path):
    document = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    [operation] = [found.ok() for found in document.get_all_operations() if found.ok().path == path]

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def check(case):
        case.call_and_validate(checks=CHECKS, timeout=60)

    check()


def test_the_document_names_every_route_and_what_can_go_wrong(live):
    paths = live.get("/openapi.json").json()["paths"]
    assert set(paths) >= ROUTES
    assert {"400", "401", "413", "429", "503"} <= set(paths["/v1/chat/completions"]["post"]["responses"])
