"""What the REST interface answers alike for all resources: pages, moments, recordings."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from email.utils import format_datetime
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from telephony.emulator.account import API, Account, KeptRecording
from telephony.emulator.dial_request import RequestRefused

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


def shown_recording(account: Account, recording: KeptRecording) -> Shown:
    """A recording; `media_url` is where its sound is."""
    media_url = account.recording_url(recording.sid)
    return {
        "sid": recording.sid,
        "account_sid": account.sid,
        "api_version": API.strip("/"),
        "call_sid": recording.call_sid,
        "conference_sid": None,
        "channels": recording.n_channels,
        "source": recording.source,
        "status": "completed",
        "error_code": None,
        "duration": str(recording.duration_s),
        "price": None,
        "price_unit": "USD",
        "date_created": format_datetime(recording.ended),
        "date_updated": format_datetime(recording.ended),
        "start_time": format_datetime(recording.started),
        "encryption_details": None,
        "uri": media_url.removeprefix(account.api_url) + ".json",
        "media_url": media_url,
        "subresource_uris": {},
    }


def lies_within(query: Mapping[str, str], name: str, when: datetime | None) -> bool:
    """Whether something was on the day, not before and not after what a query asks.

    What has not been yet is at no time that is asked for. Raises RequestRefused.
    """
    on = _moment(query, name)
    after, before = _moment(query, name + ">"), _moment(query, name + "<")
    if when is None:
        return on is None and after is None and before is None
    if on is not None and when.astimezone(UTC).date() != on.astimezone(UTC).date():
        return False
    return (after is None or when >= after) and (before is None or when <= before)


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
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
