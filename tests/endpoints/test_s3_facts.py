"""Features of servers that answer in other ways than SeaweedFS."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rackwright.endpoints import s3_facts

MISSING = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
UNCONFIGURED = {"Error": {"Code": "VersioningNotConfigured"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
NO_BUCKET = {"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}


class Client:
    """A client of a server that looks for the bucket first, and has no encryption and no versioning."""

    def __getattr__(self, operation: str) -> Any:
        def ask(Bucket: str) -> dict[str, Any]:
            if Bucket != "models":
                raise ClientError(NO_BUCKET, operation)
            if answer := {"get_bucket_encryption": MISSING, "get_bucket_versioning": UNCONFIGURED}.get(operation):
                raise ClientError(answer, operation)
            return {}

        return ask


@pytest.mark.parametrize(("names", "lacked"), [([], set()), (["models"], {"encryption", "versioning"})])
def test_features_that_only_an_existing_bucket_shows_are_found_with_the_first_bucket(names, lacked):
    with ThreadPoolExecutor() as pool:
        features = s3_facts._features(Client(), pool, names)

    assert {name for name, known in features.items() if not known} == lacked


def test_a_setting_of_a_missing_feature_is_absent_and_not_unknown():
    assert s3_facts._setting(Client(), "get_bucket_versioning", "models") == {}
    assert "unknown" in s3_facts._setting(Client(), "get_bucket_versioning", "other")
