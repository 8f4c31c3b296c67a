"""Opens the bucket that `--blobs.bucket` names, with the standard AWS_* variables, from the environment or `.env`."""

from __future__ import annotations

import secrets

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from iota_subnet.settings import MinerData
from iota_subnet.wire.blobs import Bucket, BucketFailed, Site
from iota_subnet.wire.places import folder
from iota_subnet.wire.stats import ByteCounter
from template.errors import BadSettings

FLAG = "--blobs.bucket (BLOBS_BUCKET)"


class Keys(BaseSettings):
    """Where and as whom to write. The keys are never printed."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env", env_ignore_empty=True)

    aws_access_key_id: SecretStr = SecretStr("")
    aws_secret_access_key: SecretStr = SecretStr("")
    aws_session_token: SecretStr = SecretStr("")
    aws_region: str = ""
    aws_default_region: str = ""
    aws_endpoint_url: str = ""
    aws_endpoint_url_s3: str = ""

    def site(self, bucket: str, below: str) -> Site:
        """The folder `below` what s3://BUCKET/PREFIX names."""
        name, _, prefix = bucket.removeprefix("s3://").strip("/").partition("/")
        return Site(
            name,
            f"{prefix}/{below}".strip("/"),
            self.aws_region or self.aws_default_region or "us-east-1",
            self.aws_endpoint_url_s3 or self.aws_endpoint_url,
            self.aws_access_key_id.get_secret_value(),
            self.aws_secret_access_key.get_secret_value(),
            self.aws_session_token.get_secret_value(),
        )


def open_bucket(settings: MinerData, hotkey: str, bytes_out: ByteCounter) -> Bucket:
    """The folder of this process. Nothing is asked yet. Raises BadSettings."""
    keys = Keys()
    if not keys.aws_access_key_id.get_secret_value() or not keys.aws_secret_access_key.get_secret_value():
        raise BadSettings(f"{FLAG}: needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment or .env")
    site = keys.site(settings.bucket, folder(hotkey, secrets.token_hex(16)))
    # A public address stands for the bucket as a whole, prefix not included.
    base = settings.bucket_url.rstrip("/") or site.public_url()
    try:
        return Bucket(site, f"{base}/{site.prefix}", bytes_out)
    except BucketFailed as error:
        raise BadSettings(f"{FLAG}: {error}") from None
