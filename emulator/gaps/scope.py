"""Account and Region for MiniStack's stores, which our own threads must set."""

from collections.abc import Iterator
from contextlib import contextmanager

from ministack.services import lambda_svc


@contextmanager
def of(account: str, region: str) -> Iterator[None]:
    """Context manager: MiniStack's stores are those of this account and Region."""
    account_token = lambda_svc._request_account_id.set(account)
    region_token = lambda_svc._request_region.set(region)
    try:
        yield
    finally:
        lambda_svc._request_account_id.reset(account_token)
        lambda_svc._request_region.reset(region_token)
