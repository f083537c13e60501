"""Settings: where they come from, and what is said of wrong ones."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import (
    CampaignSettings,
    DialerSettings,
    GpuSettings,
    ProcessSettings,
    SettingsError,
    WebSettings,
    read_settings,
    with_file,
)

NONE = Path("no-such.env")
TOKEN = "0123456789abcdef"


def env(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv("VOICEBOT_" + name, value)


def test_the_gpu_host_needs_no_settings() -> None:
    """Defaults give a host on loopback with the embedded checkpoint."""
    settings = read_settings(GpuSettings, NONE)

    assert settings.gpu_host == "127.0.0.1"
    assert settings.tokenizer_dir is None


def test_the_environment_wins_over_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A variable of the shell overrides the same one in .env; others are taken from the file."""
    file = tmp_path / ".env"
    file.write_text(f"VOICEBOT_PORT=1111\nVOICEBOT_TWILIO_AUTH_TOKEN={TOKEN}\nOTHER=1\n")
    env(monkeypatch, PORT="2222")

    settings = read_settings(WebSettings, file)

    assert settings.port == 2222
    assert settings.twilio_auth_token is not None
    assert settings.twilio_auth_token.get_secret_value() == TOKEN


def test_an_empty_variable_hides_the_one_of_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So a setting of the file can be done without, whatever it was."""
    file = tmp_path / ".env"
    file.write_text(
        f"VOICEBOT_DATABASE_URL=sqlite:///a.db\nVOICEBOT_API_TOKEN={TOKEN}\nVOICEBOT_PORT=1111\n"
        f"VOICEBOT_TWILIO_AUTH_TOKEN={TOKEN}\n"
    )
    env(monkeypatch, DATABASE_URL="", PORT="")

    settings = read_settings(WebSettings, file)

    assert settings.database_url is None
    assert settings.port == 8080
    assert settings.api_token is not None


@pytest.mark.parametrize(
    "url", ["HTTPS://a.example", "https://a.example/", "https://a.example?", "https://a.example#"]
)
def test_a_public_url_is_scheme_and_host(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """However it is written: what Twilio signs is put together of it."""
    env(monkeypatch, PUBLIC_URL=url, TWILIO_AUTH_TOKEN=TOKEN)

    assert read_settings(WebSettings, NONE).public_url == "https://a.example"


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """As some editors save it."""
    file = tmp_path / ".env"
    file.write_text("VOICEBOT_PORT=1111", encoding="utf-16")

    with pytest.raises(SettingsError, match=r"\.env: is not UTF-8 \(byte 0\)"):
        read_settings(WebSettings, file)


def test_caller_ids_have_digits_that_a_telephone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of another script, as an input method may write them."""
    env(monkeypatch, CALLER_IDS="+1\uff14155550100", TWILIO_AUTH_TOKEN=TOKEN)

    with pytest.raises(SettingsError, match="VOICEBOT_CALLER_IDS"):
        read_settings(WebSettings, NONE)


def test_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settings object is frozen."""
    settings = read_settings(GpuSettings, NONE)

    with pytest.raises(ValidationError):
        settings.gpu_port = 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PORT": "many"}, r"VOICEBOT_PORT: .*integer.*got 'many'; example: VOICEBOT_PORT=8080"),
        ({"PORT": "70000"}, r"VOICEBOT_PORT: .*less than or equal to 65535"),
        ({"PUBLIC_URL": "voice.example.com"}, r"VOICEBOT_PUBLIC_URL: must be .*https://"),
        ({"PUBLIC_URL": "https://a.example/x"}, r"VOICEBOT_PUBLIC_URL: must have no path"),
        ({"PUBLIC_URL": "https://@a.example"}, r"VOICEBOT_PUBLIC_URL: must have no .* user"),
        ({"PUBLIC_URL": "https://:pw@a.example"}, r"VOICEBOT_PUBLIC_URL: must have no .* user"),
        ({"PUBLIC_URL": "https://a.example:"}, r"VOICEBOT_PUBLIC_URL: must have no colon"),
        ({"PUBLIC_URL": "https://[::1]:"}, r"VOICEBOT_PUBLIC_URL: must have no colon"),
        ({"PUBLIC_URL": "https://a.example:99999"}, r"VOICEBOT_PUBLIC_URL: has a host or a port"),
        ({"PUBLIC_URL": "https:// a.example"}, r"VOICEBOT_PUBLIC_URL: must hold no blanks"),
        ({"PUBLIC_URL": "https://a.exa\tmple"}, r"VOICEBOT_PUBLIC_URL: must hold no blanks"),
        ({"GPU_URL": " ws://a.example"}, r"VOICEBOT_GPU_URL: must hold no blanks"),
        ({"GPU_URL": "ws://a.example:abc"}, r"VOICEBOT_GPU_URL: has a host or a port"),
        ({"GPU_URL": "ws://a..b"}, r"VOICEBOT_GPU_URL: has a host or a port"),
        ({"GPU_URL": "http://a.example"}, r"VOICEBOT_GPU_URL: must be a websocket address"),
        ({"PROT": "1"}, r"VOICEBOT_PROT: is not a setting; did you mean VOICEBOT_PORT\?"),
        ({"INSECURE": "1", "HOST": "0.0.0.0"}, r"VOICEBOT_INSECURE: is only allowed on a loop"),
        (
            {"API_TOKEN": "short"},
            r"VOICEBOT_API_TOKEN: .*at least 16.*; example: VOICEBOT_API_TOKEN=",
        ),
        ({"TWILIO_AUTH_TOKEN": ""}, r"VOICEBOT_TWILIO_AUTH_TOKEN: is required.*example: "),
    ],
)
def test_a_wrong_setting_is_named_with_an_example(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    """The error says which setting, what is wrong, and what would be right."""
    env(monkeypatch, **({"TWILIO_AUTH_TOKEN": TOKEN} | variables))

    with pytest.raises(SettingsError, match=words):
        read_settings(WebSettings, NONE)


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        (DialerSettings, "CALLER_IDS", "+14155550100,0415", "should be numbers with their country"),
        (DialerSettings, "TWILIO_ACCOUNT_SID", "SK1", "should be AC and 32 digits or letters from"),
        (GpuSettings, "VLLM_URL", "http://a:99999", "has a host or a port that no address can"),
        (GpuSettings, "DEVICE", "gpu", "should be cpu, cuda, or cuda and the number of a card"),
    ],
)
def test_a_form_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[ProcessSettings],
    name: str,
    value: str,
    words: str,
) -> None:
    """Whoever writes settings need not read regular expressions."""
    env(monkeypatch, **{name: value})

    with pytest.raises(SettingsError, match=rf"VOICEBOT_{name}: {words}.*, got .*; example: ") as e:
        read_settings(kind, NONE)
    assert "^" not in str(e.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (WebSettings, "PERSONAS_DIR"),
        (WebSettings, "ROUTES_FILE"),
        (CampaignSettings, "PERSONAS_DIR"),
        (GpuSettings, "TOKENIZER_DIR"),
        (GpuSettings, "LANGUAGE_MODEL_DIR"),
        (GpuSettings, "DECODER_DIR"),
    ],
)
def test_what_a_setting_leads_to_has_to_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[ProcessSettings], name: str
) -> None:
    """The setting is named, and the whole path: it may have been meant from another folder."""
    monkeypatch.chdir(tmp_path)
    env(monkeypatch, **{name: "nope"})

    with pytest.raises(SettingsError) as told:
        read_settings(kind, NONE)
    [fault] = [line for line in str(told.value).splitlines() if name in line]
    assert fault.startswith(f"VOICEBOT_{name}: must be a ")
    assert f" ({tmp_path / 'nope'}: No such file or directory), got 'nope'; example: " in fault


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("PERSONAS_DIR", __file__, "must be a folder .*: Not a directory"),
        ("ROUTES_FILE", ".", "must be a file .*: Is a directory"),
    ],
)
def test_a_folder_is_no_file(
    monkeypatch: pytest.MonkeyPatch, name: str, path: str, words: str
) -> None:
    """Nor the other way round."""
    env(monkeypatch, **{name: path})

    with pytest.raises(SettingsError, match=f"VOICEBOT_{name}: {words}"):
        read_settings(WebSettings, NONE)


def test_a_trial_on_loopback_needs_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """VOICEBOT_INSECURE=1 stands in for a token on a loopback address."""
    env(monkeypatch, INSECURE="1")

    assert read_settings(WebSettings, NONE).twilio_auth_token is None


def test_a_fault_of_the_env_file_is_told_with_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever has to mend it looks there; what the environment says is told without."""
    file = tmp_path / ".env"
    file.write_text("VOICEBOT_INSECURE=1\nVOICEBOT_HOST=0.0.0.0\n")
    with pytest.raises(SettingsError) as of_rule:
        read_settings(WebSettings, file)
    file.write_text("VOICEBOT_PORT=many\nVOICEBOT_MAX_CALLS=all\nvoicebot_gpu_url=a\n")
    env(monkeypatch, MAX_CALLS="none")
    with pytest.raises(SettingsError) as of_values:
        read_settings(WebSettings, file)

    assert str(of_rule.value).startswith(f"{file}: VOICEBOT_INSECURE: is only allowed")
    port, gpu_url, max_calls = str(of_values.value).splitlines()
    assert port.startswith(f"{file}: VOICEBOT_PORT: should be")
    assert gpu_url.startswith(f"{file}: VOICEBOT_GPU_URL: must be")
    assert max_calls.startswith("VOICEBOT_MAX_CALLS: should be")


def test_a_fault_that_shows_later_is_told_with_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as a port that is taken: whichever of its settings the file has."""
    file = tmp_path / ".env"
    file.write_text("VOICEBOT_PORT=80\nVOICEBOT_DEVICE=cpu\n")
    env(monkeypatch, DEVICE="cuda")

    assert with_file("VOICEBOT_HOST, VOICEBOT_PORT: no", file).startswith(f"{file}: VOICEBOT_HOST,")
    assert with_file("VOICEBOT_DEVICE: no", file) == "VOICEBOT_DEVICE: no"
    assert with_file("no such device", file) == "no such device"


def test_an_unknown_name_in_the_env_file_is_told(tmp_path: Path) -> None:
    """A typing mistake in .env stops the process too."""
    file = tmp_path / ".env"
    file.write_text("VOICEBOT_DEVISE=cuda\n")

    with pytest.raises(SettingsError, match=r"did you mean VOICEBOT_DEVICE\?") as told:
        read_settings(GpuSettings, file)
    assert str(told.value).startswith(f"{file}: VOICEBOT_DEVISE")


def test_model_folders_come_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One released folder without the other two is a mistake that names a missing one."""
    env(monkeypatch, LANGUAGE_MODEL_DIR=str(tmp_path))

    with pytest.raises(SettingsError, match=r"VOICEBOT_TOKENIZER_DIR: is required.*tokenizer$"):
        read_settings(GpuSettings, NONE)


@pytest.mark.parametrize(("name", "value"), [("TRANSCRIPTION", "true"), ("FLOW_STEPS", "5")])
def test_what_is_said_of_model_folders_needs_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A setting that would have no effect on the small model is refused."""
    env(monkeypatch, **{name: value})

    with pytest.raises(SettingsError, match=f"VOICEBOT_{name}: is about the model folders"):
        read_settings(GpuSettings, NONE)


def test_an_adapter_needs_the_server_that_has_loaded_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process there are none: they are worked into the folder."""
    env(monkeypatch, VLLM_ADAPTER="line")

    with pytest.raises(SettingsError, match="VOICEBOT_VLLM_URL: is required with VOICEBOT_VLLM_A"):
        read_settings(GpuSettings, NONE)


def test_a_gpu_host_on_the_network_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but us may use the model of a host that others can reach."""
    env(monkeypatch, GPU_HOST="0.0.0.0")

    with pytest.raises(SettingsError, match="VOICEBOT_GPU_TOKEN: is required"):
        read_settings(GpuSettings, NONE)


@pytest.mark.parametrize("tokens", ["500", "many"])
def test_a_context_too_small_for_a_turn_and_its_answer_is_refused(
    monkeypatch: pytest.MonkeyPatch, tokens: str
) -> None:
    """The longest conversation has a least length, and the error gives a good one."""
    env(monkeypatch, MAX_CONTEXT_TOKENS=tokens)

    with pytest.raises(SettingsError, match=r"VOICEBOT_MAX_CONTEXT_TOKENS: .*; example: .*=4096"):
        read_settings(GpuSettings, NONE)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a settings object nor an error prints a token."""
    env(monkeypatch, TWILIO_AUTH_TOKEN=TOKEN, PORT="many")
    with pytest.raises(SettingsError) as caught:
        read_settings(WebSettings, NONE)
    monkeypatch.delenv("VOICEBOT_PORT")

    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(read_settings(WebSettings, NONE))
