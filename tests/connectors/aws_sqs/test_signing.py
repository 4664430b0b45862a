"""Who we are: our signature is the AWS SDK's, and where keys and region come from."""

from __future__ import annotations

import sys
from datetime import datetime, timezone

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from connectors.aws_sqs.credentials import Credentials
from connectors.aws_sqs.settings import SqsSource
from connectors.aws_sqs.signing import Keys, signed
from connectors.errors import FatalError

URL = "https://sqs.eu-west-1.amazonaws.com/1/jobs"


@pytest.mark.parametrize("token", [None, "session-token"])
def test_a_signature_is_the_one_that_the_sdk_makes(token, monkeypatch):
    at = datetime(2026, 11, 21, 5, 7, 38, tzinfo=timezone.utc)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at.replace(tzinfo=None))
    body = b'{"QueueUrl":"x"}'
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": "sqs.eu-west-1.amazonaws.com",
        "x-amz-target": "AmazonSQS.ReceiveMessage",
    }
    request = botocore.awsrequest.AWSRequest("POST", URL.rpartition("1/")[0], headers, body)
    request.url = "https://sqs.eu-west-1.amazonaws.com/"
    login = botocore.credentials.Credentials("AKIDEXAMPLE", "secret", token)
    botocore.auth.SigV4Auth(login, "sqs", "eu-west-1").add_auth(request)
    keys = Keys("AKIDEXAMPLE", "secret", token)
    ours = signed(headers, body, keys, region="eu-west-1", service="sqs", at=at)
    assert ours["authorization"] == request.headers["Authorization"]


@pytest.fixture
def nothing_set(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def settings(**config):
    return SqsSource.model_validate({"queue_url": URL, **config})


def test_keys_of_the_settings_need_no_sdk(nothing_set, monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    found = Credentials(settings(access_key_id="a", secret_access_key="b"), URL)
    assert (found.keys(), found.region) == (Keys("a", "b"), "eu-west-1")


def test_without_keys_and_without_the_sdk_the_command_to_install_it_is_told(
    nothing_set, monkeypatch
):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(FatalError) as caught:
        Credentials(settings(), URL)
    assert "pip install 'penstock[sqs]'" in caught.value.hint


def test_keys_come_from_the_environment_and_from_profiles(nothing_set, monkeypatch):
    (nothing_set / "credentials").write_text(
        "[ops]\naws_access_key_id = p\naws_secret_access_key = q\n"
    )
    assert Credentials(settings(profile="ops"), URL).keys() == Keys("p", "q")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "e")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "f")
    assert Credentials(settings(), URL).keys() == Keys("e", "f")


def test_without_any_keys_the_error_says_where_to_set_them(nothing_set):
    with pytest.raises(FatalError) as caught:
        Credentials(settings(), URL)
    assert caught.value.code == "aws_credentials"


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (URL, "eu-west-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://ap-southeast-2.queue.amazonaws.com/1/q", "ap-southeast-2"),
    ],
)
def test_the_region_is_in_the_queues_address(nothing_set, url, region):
    assert Credentials(settings(access_key_id="a", secret_access_key="b"), url).region == region


def test_without_a_region_the_error_says_so(nothing_set):
    with pytest.raises(FatalError) as caught:
        Credentials(settings(access_key_id="a", secret_access_key="b"), "http://127.0.0.1/q")
    assert caught.value.code == "aws_region"
