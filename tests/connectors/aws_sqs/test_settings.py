"""What may be written for SQS, and what is refused with what is expected."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.registry import connector_type

MINIMAL = {
    "source.aws_sqs": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/jobs"},
    "sink.aws_sqs": {"queue_url": "http://127.0.0.1:9324/queue/jobs.fifo", "message_group": "g"},
}


@pytest.mark.parametrize("name", sorted(MINIMAL))
def test_a_minimal_configuration_is_valid_and_its_connector_is_made(name):
    kind = connector_type(name)
    settings = kind.settings.model_validate(MINIMAL[name])
    assert (kind.source or kind.sink)("m", settings)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("source.aws_sqs", {"queue_url": "jobs"}, "a URL such as https://"),
        ("source.aws_sqs", {"wait_time": "30s"}, "less than or equal to 20"),
        ("source.aws_sqs", {"access_key_id": "AKIA"}, "secret_access_key together"),
        ("source.aws_sqs", {"queue_url": ...}, "Field required"),
        ("source.aws_sqs", {"visiblity_timeout": "60s"}, "Extra inputs"),
        ("sink.aws_sqs", {"delay": "10s"}, "a FIFO queue takes none"),
        ("sink.aws_sqs", {"queue_url": "http://h/jobs"}, "ends in .fifo"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(name, changes, expected):
    config = {key: value for key, value in (MINIMAL[name] | changes).items() if value is not ...}
    with pytest.raises(ValidationError) as caught:
        connector_type(name).settings.model_validate(config)
    (error,) = caught.value.errors()
    assert expected in error["msg"]
