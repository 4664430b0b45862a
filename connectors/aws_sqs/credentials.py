"""Who we are at AWS: what the settings say, else what the AWS SDK's own chain finds.

The chain (environment, profiles, SSO, containers, instance roles, roles to assume) is botocore's; it is
imported only where it is needed, since it brings 30 MB.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Any
from urllib.parse import urlsplit

from connectors.aws import AwsSettings
from connectors.aws_sqs.signing import Keys
from connectors.errors import FatalError, RetryableError

_HOST = re.compile(
    r"(?:sqs|queue)[.-]?(?:fips\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.|^([a-z]{2}(?:-[a-z]+)+-\d)\.queue\."
)


class Credentials:
    """The keys to sign with, renewed when they end. Any thread may ask."""

    def __init__(self, settings: AwsSettings, queue_url: str) -> None:
        """Find them. Raises FatalError where there are none, or botocore is missing."""
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._found: Any = None
        session: Any = None
        if settings.access_key_id and settings.secret_access_key:
            self._keys = Keys(
                settings.access_key_id, settings.secret_access_key, settings.session_token
            )
        if self._keys is None or settings.role_arn:
            session = _session(settings)
            self._found = _found(session, settings)
        self.region = settings.region or _region_of(queue_url)
        if self.region is None:
            given = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            self.region = given or (session and session.get_config_variable("region"))
        if not self.region:
            raise FatalError(
                "nobody says in which AWS region the queue is.",
                code="aws_region",
                hint="Add `region:` to the module's config, or set AWS_REGION.",
            )

    def keys(self) -> Keys:
        """Return the keys as they are now. Raises RetryableError where they can't be renewed."""
        if self._found is None:
            assert self._keys is not None  # noqa: S101 - one of the two is there
            return self._keys
        with self._lock:
            try:
                now = self._found.get_frozen_credentials()
            except Exception as error:  # noqa: BLE001 - botocore asks files, servers and programs
                raise RetryableError(
                    f"the AWS credentials can't be renewed: {type(error).__name__}: {error}.",
                    code="aws_credentials",
                    hint="It is tried again.",
                ) from None
        return Keys(now.access_key, now.secret_key, now.token)


def _region_of(queue_url: str) -> str | None:
    match = _HOST.search(urlsplit(queue_url).hostname or "")
    return (match[1] or match[2]) if match else None


def _session(settings: AwsSettings) -> Any:
    try:
        import botocore.session  # noqa: PLC0415 - see the module's text
    except ImportError:
        raise FatalError(
            "botocore, which finds AWS credentials, is not installed.",
            code="aws_sdk_missing",
            hint="pip install 'penstock[sqs]', or write access_key_id and secret_access_key.",
        ) from None
    made = botocore.session.Session(profile=settings.profile)
    if settings.access_key_id and settings.secret_access_key:
        made.set_credentials(
            settings.access_key_id, settings.secret_access_key, settings.session_token
        )
    return made


def _found(session: Any, settings: AwsSettings) -> Any:
    import botocore.credentials  # noqa: PLC0415 - _session has it imported

    try:
        found = session.get_credentials()
    except Exception as error:  # noqa: BLE001 - as above
        raise FatalError(
            f"the AWS credentials can't be read: {type(error).__name__}: {error}.",
            code="aws_credentials",
            hint="Check `profile` and the files it is in.",
        ) from None
    if found is None:
        raise FatalError(
            "no AWS credentials were found.",
            code="aws_credentials",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a `profile`, or run where a"
            " role is attached.",
        )
    if settings.role_arn is None:
        return found
    fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
        session.create_client, found, settings.role_arn
    )
    return botocore.credentials.DeferredRefreshableCredentials(
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
