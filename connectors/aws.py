"""What every AWS connector's settings share: region, endpoint and credentials."""

from __future__ import annotations

from pydantic import model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl
from connectors.settings import Secret, Settings


class AwsSettings(Settings):
    """Where AWS is and who we are; without credentials here the SDK's own chain finds them."""

    region: str | None = None
    """Region, such as `eu-west-1`; default: the environment's (`AWS_REGION`, the profile)."""
    endpoint: HttpUrl | None = None
    """Address of an AWS-compatible server instead of AWS itself."""
    profile: str | None = None
    """Named profile of the shared AWS configuration files."""
    access_key_id: str | None = None
    """Access key; default: the SDK's chain (environment, profile, container, instance role)."""
    secret_access_key: Secret | None = None
    """Secret of `access_key_id`."""
    session_token: Secret | None = None
    """Session token of temporary credentials."""
    role_arn: str | None = None
    """Role to assume with the credentials found."""

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key together, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("access_key_id and secret_access_key beside session_token")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("either profile or access_key_id, not both")
        return self
