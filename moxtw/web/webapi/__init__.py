"""The HTTP API for programs: sending mail, with HTTP basic authentication."""

from moxtw.web.webapi.service import body_limit, make_webapi

__all__ = ["body_limit", "make_webapi"]
