"""Forms of text that files and requests may have, and how each is told to whoever writes them."""

NUMBER = r"^\+[1-9][0-9]{1,14}$"  # E.164; not \d, which takes the digits of any script
LINE_NUMBER = r"^\+[1-9][0-9]{6,14}$"  # one that Twilio shows to those who are rung
NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"
DEPARTMENT = r"^[a-z0-9]+([_-][a-z0-9]+)*$"
LABEL = r"^[a-z][a-z0-9_]*$"
LINE = r"^[^\x00-\x1f\x7f]+$"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]+$"  # all that XML can hold
COUNTRY = r"^[A-Z]{2}$"
COLUMN = r"^[a-z][a-z0-9_]*=[\s\S]+$"
VOICE = r"^[a-z0-9-]{1,40}$"
CALLER_VOICE = r"^[a-z0-9-]+(\+[a-zA-Z0-9]+)?$"
KEYS = r"^[0-9*#]{1,40}$"
WAV_FILE = r"^[A-Za-z0-9_./-]+\.wav$"
YAML_FILE = r"^[A-Za-z0-9_./-]+\.yaml$"
ACCOUNT_SID = r"^AC[0-9a-fA-F]{32}$"
DEVICE = r"^(cpu|cuda(:[0-9]+)?)$"

EXPECTED = {
    NUMBER: "should be a telephone number with its country code, such as '+14155550123'",
    LINE_NUMBER: "should be numbers with their country code, such as '+14155550100'",
    NAME: "should be lower-case letters and digits with hyphens between, such as 'support-en'",
    DEPARTMENT: "should be lower-case letters and digits, such as 'billing'",
    LABEL: "should be lower-case letters, digits and underscores, such as 'first_name'",
    LINE: "should be one line of text",
    TEXT: "should be text without control characters",
    COUNTRY: "should be a country in two capital letters, such as 'US'",
    COLUMN: "should be a field and a heading, such as 'number=Mobile phone'",
    VOICE: "should be lower-case letters, digits and hyphens, such as 'default'",
    CALLER_VOICE: "should be a voice of espeak-ng, such as 'en-us+m3'",
    KEYS: "should be keys of a telephone, at most 40, such as '123#'",
    WAV_FILE: "should be the name of a file, such as 'question.wav'",
    YAML_FILE: "should be the name of a file, such as 'sentences/northwind-en.yaml'",
    ACCOUNT_SID: "should be AC and 32 digits or letters from a to f, as Twilio's console shows it",
    DEVICE: "should be cpu, cuda, or cuda and the number of a card, such as 'cuda:0'",
}


def expected(context: object) -> str | None:
    """What should stand where a text does not fit; `context` is that of the error of pydantic."""
    pattern = context.get("pattern") if isinstance(context, dict) else None
    return EXPECTED.get(pattern) if isinstance(pattern, str) else None
