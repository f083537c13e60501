"""The account whose calls these are, and the recordings that are kept for it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

API = "/2010-04-01"
API_URL = "https://api.twilio.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRecording:
    """A recording that is done. `wav` makes its file: call it in a thread."""

    call_sid: str
    source: str  # what began it, in Twilio's words
    track: str  # whose voice it has, in Twilio's words
    n_channels: int
    started: datetime
    ended: datetime
    duration_s: int
    wav: Callable[[], bytes]
    sid: str = field(default_factory=lambda: "RE" + secrets.token_hex(16))


@dataclass(slots=True, kw_only=True)
class Account:
    """`api_url` is where its REST interface is served.

    `continue_after_broken_pipe`: whether TwiML goes on when a media socket just breaks.
    """

    sid: str
    auth_token: str
    continue_after_broken_pipe: bool
    api_url: str = API_URL
    recordings: dict[str, KeptRecording] = field(default_factory=dict)  # by SID, oldest first

    def recording_url(self, recording_sid: str) -> str:
        """Where the sound of a recording is."""
        return f"{self.api_url}{API}/Accounts/{self.sid}/Recordings/{recording_sid}"

    def recording_facts(self, recording: KeptRecording) -> dict[str, str]:
        """What every request says that tells of a recording."""
        return {
            "RecordingSid": recording.sid,
            "RecordingUrl": self.recording_url(recording.sid),
            "RecordingDuration": str(recording.duration_s),
        }

    def all_recording_facts(self, recording: KeptRecording) -> dict[str, str]:
        """What its own callback says besides."""
        return self.recording_facts(recording) | {
            "RecordingStatus": "completed",
            "RecordingChannels": str(recording.n_channels),
            "RecordingSource": recording.source,
            "RecordingStartTime": format_datetime(recording.started),
            "RecordingTrack": recording.track,
        }
