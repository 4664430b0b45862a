"""`retry_on` and `permanent_on`: what a flow says of errors by itself."""

from __future__ import annotations

import pytest

from connectors.errors import FatalError, HeldError, PermanentError, RetryableError
from flows.runtime.classifying import Classifier, classifier_of
from flows.spec.pipelines import Retry

GONE = PermanentError("It answered 409.", code="http_status", hint="Mend it.", status=409)
BUSY = RetryableError("It answered 503.", code="http_status", status=503)
SLOW = RetryableError("No answer.", code="http_timeout", retry_after=3.0)
TWICE = PermanentError("duplicate key", code="db_refused", sqlstate="23505")


def kind(error, attempt=1, **written):
    return Classifier(Retry.model_validate(written))(error, attempt).kind


@pytest.mark.parametrize(
    "pattern",
    [
        409,
        "4xx",
        "http_status",
        "http_*",
        "*",
        {"when": ".status == 409"},
        {"when": '.message | test("409")'},
        {"when": ".context.status > 400"},
    ],
)
def test_a_pattern_makes_a_permanent_error_one_to_try_again(pattern):
    assert kind(GONE, retry_on=[pattern]) == "retryable"


@pytest.mark.parametrize("pattern", [503, "5xx", "http_status", {"when": ".status == 503"}])
def test_a_pattern_makes_an_error_to_try_again_a_permanent_one(pattern):
    assert kind(BUSY, permanent_on=[pattern]) == "permanent"


@pytest.mark.parametrize("pattern", [408, "5xx", "http", "db_*", {"when": ".status == 1"}])
def test_a_pattern_of_others_changes_nothing(pattern):
    assert kind(GONE, retry_on=[pattern]) == "permanent"


@pytest.mark.parametrize("pattern", [23505, "23505"])
def test_a_sqlstate_may_be_written_as_yaml_reads_it(pattern):
    assert kind(TWICE, retry_on=[pattern]) == "retryable"


def test_permanent_on_wins():
    assert kind(BUSY, retry_on=["*"], permanent_on=[503]) == "permanent"


def test_a_condition_may_count_attempts():
    written = {"permanent_on": [{"when": ".attempts >= 3"}]}
    assert [kind(SLOW, attempt, **written) for attempt in (1, 2, 3)] == [
        "retryable",
        "retryable",
        "permanent",
    ]


def test_a_condition_that_fails_for_an_error_is_not_about_it():
    assert kind(GONE, retry_on=[{"when": ".message + 1"}]) == "permanent"


def test_an_error_stays_what_it_says():
    made = Classifier(Retry(retry_on=[409]))(GONE, 1)
    assert (made.message, made.code, made.hint) == (GONE.message, GONE.code, GONE.hint)
    assert made.context == {"status": 409}
    assert Classifier(Retry(retry_on=["*"]))(SLOW, 1) is SLOW, "with its retry_after"


def test_what_is_about_the_whole_flow_and_what_was_not_tried_stay_so():
    fatal = FatalError("no right", code="http_tls")
    held = HeldError("open", code="circuit_open")
    for error in (fatal, held):
        assert Classifier(Retry(permanent_on=["*"], retry_on=["*"]))(error, 1) is error


def test_a_flow_that_says_nothing_has_none():
    assert classifier_of(None) is None
    assert classifier_of(Retry()) is None
