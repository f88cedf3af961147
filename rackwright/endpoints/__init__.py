"""Endpoints: APIs that give facts and take requests, such as object stores."""

from rackwright.endpoints.pool import Endpoints
from rackwright.endpoints.protocols import open_endpoints

__all__ = ["Endpoints", "open_endpoints"]
