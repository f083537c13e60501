"""Settings of each process: environment variables named VOICEBOT_*, and a `.env` file.

    SettingsError        names each setting that is unknown or invalid, with an example

A process calls `read_settings` once and passes plain values downwards. Variables of the environment
win over the `.env` file, empty ones, too: such a setting is unset. One `.env` serves all processes:
a name is unknown only if no process has it.
"""

import difflib
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config import patterns

PREFIX = "VOICEBOT_"
ENV_FILE = Path(".env")
ROOT = Path(__file__).resolve().parent.parent

Settings = TypeVar("Settings", bound="ProcessSettings")
Port = Annotated[int, Field(ge=0, le=65_535)]


class SettingsError(Exception):
    """What is wrong with the settings: one line per setting, each with an example."""


def _check_host(parts: SplitResult) -> None:
    """Raise ValueError for a host or a port that no address can have."""
    try:
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError:
        raise ValueError("has a host or a port that no address can have") from None


def _check_blanks(url: str) -> None:
    """Raise ValueError for what `urlsplit` takes out in silence."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("must hold no blanks")


def _public_url(url: str) -> str:
    """As scheme, host and port alone: other addresses are made of it."""
    _check_blanks(url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be the address Twilio calls, beginning with https://")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must have no path, query or user")
    if parts.netloc.endswith(":"):
        raise ValueError("must have no colon without a port")
    _check_host(parts)
    return f"{parts.scheme}://{parts.netloc}"


def _websocket_url(url: str) -> str:
    _check_blanks(url)
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("must be a websocket address, beginning with ws:// or wss://")
    _check_host(parts)
    return url


def _http_url(url: str) -> str:
    _check_blanks(url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address beginning with http:// or https://")
    _check_host(parts)
    return url


def _folder(path: Path) -> Path:
    try:
        os.scandir(path).close()
    except OSError as exc:
        raise ValueError(f"must be a folder ({path.absolute()}: {exc.strerror})") from None
    return path


def _file(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as exc:
        raise ValueError(f"must be a file ({path.absolute()}: {exc.strerror})") from None
    return path


def _numbers(text: object) -> object:
    return tuple(number.strip() for number in text.split(",")) if isinstance(text, str) else text


Folder = Annotated[Path, AfterValidator(_folder)]  # that is there and can be read
CallerIds = tuple[Annotated[str, Field(pattern=patterns.LINE_NUMBER)], ...]
# The dialer's, where another process is told of them: a campaign with another number is refused.
KnownCallerIds = Annotated[CallerIds | None, NoDecode, BeforeValidator(_numbers)]


def is_loopback(host: str) -> bool:
    """Whether a bind address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ProcessSettings(BaseSettings):
    """What every process has."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", examples=["info"])
    """The least severe lines that are logged: debug, info, warning or error."""
    log_format: Literal["auto", "json", "console"] = Field("auto", examples=["json"])
    """`console` for people, `json` for programs; `auto`: console on a terminal, else json."""
    log_pii: bool = Field(False, examples=["false"])
    """Whether words, numbers and prompts are logged as well."""
    insecure: bool = Field(False, examples=["1"])
    """`1`: `web` asks for no signatures, for a trial on this machine alone."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before `.env`, of which an empty variable hides its namesake."""
        if isinstance(dotenv_settings, DotEnvSettingsSource):
            hidden = {name.lower() for name, value in os.environ.items() if not value}
            dotenv_settings.env_vars = {
                name: value
                for name, value in dotenv_settings.env_vars.items()
                if name.lower() not in hidden
            }
        return init_settings, env_settings, dotenv_settings


class DatabaseSettings(ProcessSettings):
    """Settings of what reads and writes records, such as `python -m bot.records`."""

    database_url: SecretStr | None = Field(None, examples=["sqlite:///voicebot.db"])
    """Where calls and campaigns are kept; if unset, nowhere."""


class WebSettings(DatabaseSettings):
    """Settings of `python -m bot.web`."""

    host: str = Field("127.0.0.1", examples=["0.0.0.0"])
    """The address that is listened on."""
    port: Port = Field(8080, examples=["8080"])
    """The port that is listened on."""
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        "http://127.0.0.1:8080", examples=["https://voice.example.com"]
    )
    """Where Twilio reaches this process."""
    twilio_auth_token: SecretStr | None = Field(None, examples=["the token of your account"])
    """What Twilio signs its requests with."""
    twilio_auth_token_secondary: SecretStr | None = Field(None, examples=["the next token"])
    """The other token of the account, while it is exchanged."""
    media_signature: Literal["strict", "relaxed", "off"] = Field("relaxed", examples=["relaxed"])
    """How the media socket's is checked: strict, relaxed (for any URL that may be meant) or off."""

    gpu_url: Annotated[str, AfterValidator(_websocket_url)] = Field(
        "ws://127.0.0.1:8765/v1/realtime", examples=["wss://gpu.example.com/v1/realtime"]
    )
    """Where `gpu` is, or another Realtime server."""
    gpu_token: SecretStr | None = Field(None, examples=["a long random string"])
    """What the GPU host asks for."""

    routes_file: Annotated[Path, AfterValidator(_file)] = Field(
        ROOT / "config" / "routes.yaml", examples=["config/routes.yaml"]
    )
    """Which number called reaches which persona."""
    personas_dir: Folder = Field(ROOT / "prompts" / "personas", examples=["prompts/personas"])
    """The folder of all personas."""
    recording_dir: Path | None = Field(None, examples=["recordings"])
    """Where calls are recorded; if unset, none is."""

    transcribe_callers: bool = Field(False, examples=["true"])
    """Whether the voice model is asked to write down what callers say; logged as `pii_` only."""

    api_token: SecretStr | None = Field(None, min_length=16, examples=["a long random string"])
    """What programs show at /api; if unset, or without a database, there is no API."""
    caller_ids: KnownCallerIds = Field(None, examples=["+14155550100,+14155550101"])
    """The dialer's, if known: campaigns with another number are refused."""

    max_calls: int = Field(100, ge=1, le=10_000, examples=["100"])
    """Most calls at once."""
    max_pending_sockets: int = Field(50, ge=1, le=10_000, examples=["50"])
    """Most media sockets at once that have not said which call is theirs."""
    drain_limit_ms: int = Field(600_000, ge=0, le=4 * 3_600_000, examples=["600000"])
    """How long calls may go on after SIGTERM."""

    @model_validator(mode="after")
    def _has_a_token(self) -> Self:
        if self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"{PREFIX}INSECURE: is only allowed on a loopback address, and {PREFIX}HOST is"
                f" {self.host}; example: {PREFIX}HOST=127.0.0.1"
            )
        if not self.insecure and self.twilio_auth_token is None:
            raise ValueError(
                f"{PREFIX}TWILIO_AUTH_TOKEN: is required, since without it anyone could pose as"
                f" Twilio; example: {PREFIX}TWILIO_AUTH_TOKEN=0123456789abcdef0123456789abcdef"
                f" (or {PREFIX}INSECURE=1 for a trial on this machine alone)"
            )
        return self


class CampaignSettings(ProcessSettings):
    """Settings of `python -m bot.campaign`."""

    database_url: SecretStr = Field(examples=["sqlite:///voicebot.db"])
    """The one of `web` and `dialer`."""
    personas_dir: Folder = Field(ROOT / "prompts" / "personas", examples=["prompts/personas"])
    """The folder of all personas, as `web` has it."""
    caller_ids: KnownCallerIds = Field(None, examples=["+14155550100,+14155550101"])
    """The dialer's, if known: campaigns with another number are refused."""


class DialerSettings(ProcessSettings):
    """Settings of `python -m bot.dialer`."""

    database_url: SecretStr = Field(examples=["sqlite:///voicebot.db"])
    """The one of `web` and `campaign`."""
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        examples=["https://voice.example.com"]
    )
    """Where Twilio reaches `web`, which answers the calls."""
    twilio_account_sid: str = Field(
        pattern=patterns.ACCOUNT_SID, examples=["AC00000000000000000000000000000000"]
    )
    """The account that rings."""
    twilio_auth_token: SecretStr = Field(examples=["the token of your account"])
    """The token of that account."""
    twilio_api_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, examples=["http://127.0.0.1:9000"]
    )
    """In place of https://api.twilio.com: the phone network's emulator."""

    caller_ids: Annotated[CallerIds, NoDecode, BeforeValidator(_numbers)] = Field(
        min_length=1, examples=["+14155550100,+14155550101"]
    )
    """The numbers of the line that may be shown, with commas between."""
    calls_per_second: float = Field(0.9, gt=0, le=10_000, examples=["0.9"])
    """Calls begun; keep it below what the account has: Twilio queues the rest, to ring it later."""
    trunk_calls: int = Field(100, ge=1, le=10_000, examples=["100"])
    """Most calls to people at once."""
    model_slots: int = Field(32, ge=1, le=10_000, examples=["32"])
    """Conversations that the GPU host bears, with those who call."""
    inbound_reserve: int = Field(4, ge=0, le=10_000, examples=["4"])
    """How many of them are kept for those who call."""

    @model_validator(mode="after")
    def _leaves_a_slot(self) -> Self:
        if self.inbound_reserve >= self.model_slots:
            raise ValueError(
                f"{PREFIX}INBOUND_RESERVE: leaves no slot of {PREFIX}MODEL_SLOTS to dial with;"
                f" example: {PREFIX}INBOUND_RESERVE={max(0, self.model_slots // 8)}"
            )
        return self


class GpuSettings(ProcessSettings):
    """Settings of `python -m bot.gpu`."""

    gpu_host: str = Field("127.0.0.1", examples=["0.0.0.0"])
    """The address that is listened on."""
    gpu_port: Port = Field(8765, examples=["8765"])
    """The port that is listened on."""
    gpu_token: SecretStr | None = Field(None, examples=["a long random string"])
    """What clients have to show; required if others can reach the port."""

    embedded: Literal["twin", "random"] = Field("twin", examples=["random"])
    """The small model where no folders are set: twin, or random (noise, for load)."""
    tokenizer_dir: Folder | None = Field(None, examples=["models/glm-4-voice-tokenizer"])
    """The released folder of the speech tokenizer; all three or none."""
    language_model_dir: Folder | None = Field(None, examples=["models/glm-4-voice-9b"])
    """The released folder of the language model."""
    decoder_dir: Folder | None = Field(None, examples=["models/glm-4-voice-decoder"])
    """The released folder of the decoder."""
    device: str = Field("cpu", pattern=patterns.DEVICE, examples=["cuda:0"])
    """What computes: cpu, cuda, or a card such as cuda:0."""
    dtype: Literal["float32", "bfloat16"] = Field("float32", examples=["bfloat16"])
    """The numbers it computes with: float32 or bfloat16."""
    quantize: Literal["none", "8bit", "4bit"] = Field("none", examples=["8bit"])
    """Weights of the language model made smaller: none, 8bit or 4bit."""
    vllm_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, examples=["http://127.0.0.1:8000"]
    )
    """A vLLM server that computes the language model; it serves the same folder."""
    vllm_adapter: str | None = Field(None, min_length=1, examples=["line"])
    """A LoRA adapter that it has loaded (--lora-modules NAME=FOLDER)."""
    flow_steps: int = Field(10, ge=1, le=100, examples=["5"])
    """Steps of the decoder for a block of sound; fewer cost less and change it a little."""
    threads: int = Field(1, ge=1, le=256, examples=["1"])
    """Threads of torch, on the CPU."""
    max_sessions: int = Field(32, ge=1, le=1_000, examples=["32"])
    """Most calls at once."""
    admission: Literal["measured", "fixed"] = Field("measured", examples=["fixed"])
    """`measured`: as many seats as the load leaves free; `fixed`: as many as set."""
    max_context_tokens: int | None = Field(None, ge=1_024, le=1_048_576, examples=["4096"])
    """Tokens of the longest conversation, if fewer than the model can read: it saves memory."""
    transcription: bool = Field(False, examples=["true"])
    """Whether the model was taught to write down what callers say."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        folders = {
            "TOKENIZER_DIR": self.tokenizer_dir,
            "LANGUAGE_MODEL_DIR": self.language_model_dir,
            "DECODER_DIR": self.decoder_dir,
        }
        unset = [name for name, folder in folders.items() if folder is None]
        if 0 < len(unset) < len(folders):
            (example,) = type(self).model_fields[unset[0].lower()].examples or ("a/folder",)
            raise ValueError(
                f"{PREFIX}{unset[0]}: is required when another model folder is set;"
                f" example: {PREFIX}{unset[0]}={example}"
            )
        if unset:
            for name in ("TRANSCRIPTION", "FLOW_STEPS"):
                if name.lower() in self.model_fields_set:
                    raise ValueError(
                        f"{PREFIX}{name}: is about the model folders, of which none is set;"
                        f" leave it out, or set {PREFIX}LANGUAGE_MODEL_DIR and the other two"
                    )
        if self.vllm_url is not None and self.language_model_dir is None:
            raise ValueError(
                f"{PREFIX}LANGUAGE_MODEL_DIR: is required with {PREFIX}VLLM_URL, since the server"
                f" serves that folder; example: {PREFIX}LANGUAGE_MODEL_DIR=models/glm-4-voice-9b"
            )
        if self.vllm_adapter is not None and self.vllm_url is None:
            raise ValueError(
                f"{PREFIX}VLLM_URL: is required with {PREFIX}VLLM_ADAPTER, since the server has"
                f" loaded it; example: {PREFIX}VLLM_URL=http://127.0.0.1:8000"
            )
        if self.gpu_token is None and not is_loopback(self.gpu_host):
            raise ValueError(
                f"{PREFIX}GPU_TOKEN: is required when {PREFIX}GPU_HOST is not a loopback address;"
                f" example: {PREFIX}GPU_TOKEN=a-long-random-string"
            )
        return self


PROCESSES: tuple[type[ProcessSettings], ...] = (
    WebSettings,
    GpuSettings,
    DialerSettings,
    CampaignSettings,
)


def read_settings(kind: type[Settings], env_file: Path = ENV_FILE) -> Settings:
    """Read the settings of one process. Raises SettingsError."""
    of_file = _unknown(_of_file(env_file))
    faults = _unknown(os.environ) + [f"{env_file}: {fault}" for fault in of_file]
    if faults:
        raise SettingsError("\n".join(faults))
    try:
        return kind(_env_file=env_file)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        # what is wrong in a list makes it too short as well: the first fault of each is enough
        firsts = {error["loc"][:1]: error for error in reversed(errors)}
        faults = [_fault(kind, firsts[loc]) for loc in reversed(firsts)]
        raise SettingsError("\n".join(with_file(fault, env_file) for fault in faults)) from None


def with_file(fault: str, env_file: Path = ENV_FILE) -> str:
    """A fault that begins with names of settings, after the file that one of them comes from."""
    names = {name.strip().upper() for name in fault.partition(":")[0].split(",")}
    of_file = {name.upper() for name in _of_file(env_file)} - {name.upper() for name in os.environ}
    return f"{env_file}: {fault}" if names & of_file else fault


def _of_file(env_file: Path) -> Mapping[str, str | None]:
    """Raises SettingsError."""
    try:
        return dotenv_values(env_file)
    except OSError as exc:
        raise SettingsError(f"{env_file}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{env_file}: is not UTF-8 (byte {exc.start}): save it so") from exc


def settings_help(kind: type[ProcessSettings]) -> str:
    """The settings of one process: what each is by itself, or else an example, and its sense."""
    lines = ["settings, from the environment or .env:"]
    for name, field in kind.model_fields.items():
        shown = str(field.default).lower() if field.annotation is bool else str(field.default)
        if field.is_required() or field.default is None:
            word = "required" if field.is_required() else "unset"
            shown = f"{word}; such as {(field.examples or [''])[0]}"
        lines += [f"  {PREFIX}{name.upper():<27} {shown}", f"      {field.description}"]
    return "\n".join(lines)


def _unknown(variables: Mapping[str, str | None]) -> list[str]:
    known = {PREFIX + name.upper() for kind in PROCESSES for name in kind.model_fields}
    names = [n for n in variables if n.upper().startswith(PREFIX) and n.upper() not in known]
    return [_unknown_fault(name, known) for name in names]


def _unknown_fault(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.5)
    return f"{name}: is not a setting; did you mean {near[0] if near else PREFIX + 'LOG_LEVEL'}?"


def _fault(kind: type[ProcessSettings], error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:
        return message  # a rule over several settings, written out above
    field = str(error["loc"][0])
    name = PREFIX + field.upper()
    info = kind.model_fields[field]
    is_missing = error["type"] == "missing"  # of which the input is all the others
    if is_missing:
        message = "is required"
    elif sentence := patterns.expected(error.get("ctx")):
        message = sentence
    if "Secret" in str(info.annotation):
        message = message.replace(" items", " characters")
    got = "" if is_missing or "Secret" in str(info.annotation) else f", got {error['input']!r}"
    example = info.examples[0] if info.examples else ""
    return f"{name}: {message[:1].lower()}{message[1:]}{got}; example: {name}={example}"
