"""TwiML as Twilio reads it: text in, verbs out. Unknown names are warnings, not the end.

TwimlError      the document is no TwiML at all (Twilio's error 12100): the fallback is asked
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field

# What may stand inside what. A verb that is not emulated is still a verb: it is logged as such.
NESTED: Mapping[str, frozenset[str]] = {
    "Connect": frozenset({"Stream"}),
    "Start": frozenset({"Stream", "Recording"}),
    "Stop": frozenset({"Stream", "Recording"}),
    "Stream": frozenset({"Parameter"}),
    "Gather": frozenset({"Say", "Play", "Pause"}),
    "Dial": frozenset({"Number", "Client", "Conference", "Queue", "Sip", "Sim"}),
}
NOT_EMULATED = frozenset({"Enqueue", "Leave", "Pay", "Prompt", "Refer", "Sms", "Start", "Stop"})
VERBS = NOT_EMULATED | frozenset(
    {"Connect", "Dial", "Gather", "Hangup", "Pause", "Play", "Record", "Redirect", "Reject", "Say"}
)
MAX_DOCUMENT_CHARS = 64 * 1024


class TwimlError(Exception):
    """The text is not a TwiML document; `code` is Twilio's error."""

    code = 12100


@dataclass(frozen=True, slots=True)
class Verb:
    """One element: a verb of the document, or a noun inside a verb."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    children: tuple["Verb", ...] = ()

    def number(self, attribute: str, default: float) -> float:
        """An attribute as a number; the default where it is missing or no number."""
        try:
            return float(self.attributes.get(attribute, default))
        except ValueError:
            return default

    def child(self, name: str) -> "Verb | None":
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True)
class Document:
    """The verbs of a response in order, and a sentence for each thing that was not understood."""

    verbs: tuple[Verb, ...]
    warnings: tuple[str, ...] = ()


def parse_twiml(text: str) -> Document:
    """Read a TwiML response. Raises TwimlError if it is not XML or not a <Response>."""
    if len(text) > MAX_DOCUMENT_CHARS:
        raise TwimlError(f"the document has more than {MAX_DOCUMENT_CHARS} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TwimlError("a document type is not allowed")
    try:
        root = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as exc:
        raise TwimlError(f"the document is not XML: {exc}") from exc
    if root.tag != "Response":
        raise TwimlError(f"the document's element is <{root.tag}>, not <Response>")
    warnings: list[str] = []
    verbs = tuple(_verb(element, warnings) for element in _known(root, VERBS, warnings))
    return Document(verbs, tuple(warnings))


def _verb(element: ElementTree.Element, warnings: list[str]) -> Verb:
    inside = NESTED.get(element.tag, frozenset())
    children = tuple(_verb(child, warnings) for child in _known(element, inside, warnings))
    return Verb(element.tag, dict(element.attrib), (element.text or "").strip(), children)


def _known(
    parent: ElementTree.Element, allowed: frozenset[str], warnings: list[str]
) -> list[ElementTree.Element]:
    known = []
    for child in parent:
        if child.tag in allowed:
            known.append(child)
        else:
            warnings.append(f"<{child.tag}> is not known inside <{parent.tag}>")
    return known
