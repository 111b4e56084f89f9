"""The API does what its own description says: asked in every way the description allows, and in many it does not."""

from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from accounts.models import ApiToken
from tests import factories
from tests.conftest import NOW
from volume.refresh import refresh

description = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))
application = get_wsgi_application()
CHECKS = [
    checks.not_a_server_error,
    checks.load_all_checks() or checks.CHECKS.get_one("status_code_conformance"),
    checks.CHECKS.get_one("content_type_conformance"),
    checks.CHECKS.get_one("response_headers_conformance"),
    checks.CHECKS.get_one("response_schema_conformance"),
]


@pytest.fixture
def program(sandbox: Any, transactional_db: None) -> dict[str, str]:
    """What a program sends along that may do all: the token of somebody with an account and some fills.

    Not within one transaction: a real server closes its connection with each answer.
    """
    ada = factories.user("ada")
    factories.shorten(sandbox, days=2, now=NOW)
    account = factories.credential(owner=ada, history_from=NOW - timedelta(days=2), pk=1)
    refresh(account, now=NOW)
    return {"Authorization": f"Bearer {ApiToken.issue(ada, 'schema', ApiToken.Scope.MANAGE)}"}


@description.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_answer_is_one_the_description_tells_of(case: Any, program: dict[str, str]) -> None:
    answer = case.call(app=application, headers=program | {"Accept-Encoding": "identity"})
    case.validate_response(answer, checks=CHECKS)
