"""Clients of AWS services, made as `AwsSettings` say."""

from __future__ import annotations

from typing import Any

from connectors.aws import AwsSettings


def make_client(settings: AwsSettings, service: str, **config: Any) -> Any:
    """Return a boto3 client; `config` goes to botocore's Config. Connects to nothing yet.

    Raises ImportError without boto3, and what botocore raises for a profile or region that is missing.
    """
    import boto3  # noqa: PLC0415 - an extra
    from botocore.config import Config  # noqa: PLC0415 - as above

    session = boto3.Session(
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        aws_session_token=settings.session_token,
        region_name=settings.region,
        profile_name=settings.profile,
    )
    if settings.role_arn is not None:
        session = _assuming(session, settings.role_arn)
    return session.client(service, endpoint_url=settings.endpoint, config=Config(**config))


def _assuming(session: Any, role: str) -> Any:
    """Return a session whose credentials are those of a role, fetched anew before they run out."""
    import boto3  # noqa: PLC0415 - an extra
    import botocore.session  # noqa: PLC0415 - as above
    from botocore.credentials import (  # noqa: PLC0415 - as above
        AssumeRoleCredentialFetcher,
        DeferredRefreshableCredentials,
    )

    own: Any = botocore.session.get_session()
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=session._session.create_client,  # noqa: SLF001 - boto3 has no other way in
        source_credentials=session.get_credentials(),
        role_arn=role,
        extra_args={"RoleSessionName": "penstock"},
    )
    own._credentials = DeferredRefreshableCredentials(  # noqa: SLF001 - as above
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return boto3.Session(botocore_session=own, region_name=session.region_name)
