"""How lists of the API are cut."""

from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request


class Pagination(LimitOffsetPagination):
    """100 rows unless ?limit= says otherwise; an offset no table reaches is the end, not an error."""

    max_limit = 100_000

    def get_offset(self, request: Request) -> int:
        return min(super().get_offset(request), 2**31)
