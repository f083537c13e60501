"""A phone network made of code: towards a bot it behaves as Twilio does, over real sockets."""

from telephony.emulator.call import CallRecord
from telephony.emulator.callbacks import CallbackFaults
from telephony.emulator.callee import Callee, Detection, Fate
from telephony.emulator.events import CallEnd, CallEvent, EndedBy
from telephony.emulator.hearing import Stretch
from telephony.emulator.line import CallEnded, Caller, Line
from telephony.emulator.network import PhoneNetwork
from telephony.emulator.rest import CreateFault, serve_rest
from telephony.emulator.voicemail import Voicemail

__all__ = [
    "CallEnd",
    "CallEnded",
    "CallEvent",
    "CallRecord",
    "CallbackFaults",
    "Callee",
    "Caller",
    "CreateFault",
    "Detection",
    "EndedBy",
    "Fate",
    "Line",
    "PhoneNetwork",
    "Stretch",
    "Voicemail",
    "serve_rest",
]
