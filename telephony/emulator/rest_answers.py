"""What the REST interface answers alike for all resources: pages, moments, recordings."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from email.utils import format_datetime
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from telephony.emulator.dial_request import RequestRefused
from telephony.emulator.outbound import RECORDING_SOURCE, OutboundCall

API = "/2010-04-01"
DEFAULT_PAGE, MAX_PAGE = 50, 1000

T = TypeVar("T")
Shown = dict[str, object]


def page_of(request: Request, name: str, found: Sequence[T], show: Callable[[T], Shown]) -> Shown:
    """The page of `found` that a query asks for. Raises RequestRefused."""
    query = request.query_params
    size = _whole(query, "PageSize", DEFAULT_PAGE, most=MAX_PAGE)
    page = _whole(query, "Page", 0, most=10**6)
    shown = [show(one) for one in found[page * size : (page + 1) * size]]
    is_last = (page + 1) * size >= len(found)

    def uri(number: int) -> str:
        others = [(k, v) for k, v in query.multi_items() if k not in ("Page", "PageSize")]
        asked = urlencode([*others, ("PageSize", size), ("Page", number)])
        return f"{request.url.path}?{asked}"

    return {
        name: shown,
        "page": page,
        "page_size": size,
        "start": page * size,
        "end": page * size + len(shown) - 1,
        "uri": uri(page),
        "first_page_uri": uri(0),
        "next_page_uri": None if is_last else uri(page + 1),
        "previous_page_uri": uri(page - 1) if page else None,
    }


def shown_recording(account_sid: str, call: OutboundCall) -> Shown:
    """The recording of a call that has one. Its sound is where the URI says, as .wav."""
    uri = f"{API}/Accounts/{account_sid}/Recordings/{call.recording_sid}"
    times = call.times
    return {
        "sid": call.recording_sid,
        "account_sid": account_sid,
        "api_version": API.strip("/"),
        "call_sid": call.sid,
        "conference_sid": None,
        "channels": call.request.recording_channels,
        "source": RECORDING_SOURCE,
        "status": "completed",
        "error_code": None,
        "duration": str(call.recorded_s),
        "price": None,
        "price_unit": "USD",
        "date_created": format_datetime(times.ended or times.created),
        "date_updated": format_datetime(times.ended or times.created),
        "start_time": format_datetime(times.started) if times.started else None,
        "encryption_details": None,
        "uri": f"{uri}.json",
        "media_url": f"https://api.twilio.com{uri}",
        "subresource_uris": {},
    }


def moment(query: Mapping[str, str], name: str) -> datetime | None:
    """A day or a moment of a query. Raises RequestRefused."""
    text = query.get(name)
    if text is None:
        return None
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise RequestRefused(400, 20001, f"{name} is a date or a time as of ISO 8601") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _whole(query: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RequestRefused(400, 20001, f"{name} is a whole number")
    return min(int(text), most)
