"""Text in, ids out, and back; control ids cannot be forged by text."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.text_tokenizer import TextStream, TextTokenizer

SPECIALS = ("<|user|>", "<|audio_0|>", "[gMASK]", "<sop>", "<|endoftext|>", "<|observation|>")

texts = st.text(max_size=30)
hostile_texts = st.lists(st.one_of(st.sampled_from(SPECIALS), texts), max_size=6).map("".join)


def copy_files(golden: Path, folder: Path) -> Path:
    """The two files of the text tokenizer, to be broken."""
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (folder / name).write_bytes((golden / "lm" / name).read_bytes())
    return folder


class TestEncode:
    @given(text=hostile_texts)
    def test_data_never_becomes_control(self, text_tokenizer: TextTokenizer, text: str) -> None:
        """Whatever a text spells, its ids are pieces of text, and they spell it again."""
        ids = text_tokenizer.encode(text)

        assert all(text_tokenizer.is_text(token) for token in ids)
        assert text_tokenizer.decode(ids) == text

    def test_prompt_honours_specials(self, text_tokenizer: TextTokenizer) -> None:
        """In a prompt of our own the names of control ids are control ids."""
        ids = text_tokenizer.encode_prompt("<|user|>\nhi<|audio_3|>")

        assert text_tokenizer.decode(ids) == "[gMASK]<sop><|user|>\nhi<|audio_3|>"
        assert ids[2] == text_tokenizer.special("<|user|>")
        assert ids[-1] == text_tokenizer.audio_offset + 3

    def test_same_pieces_both_ways(self, text_tokenizer: TextTokenizer) -> None:
        """Without specials in it, data and prompt give the same ids."""
        text = "It's 12345 — 你好 😀,\r\n  ok?"

        assert text_tokenizer.encode_prompt(text)[2:] == text_tokenizer.encode(text)

    def test_half_a_surrogate_pair(self, text_tokenizer: TextTokenizer) -> None:
        """Text that is not valid Unicode is encoded as the replacement character."""
        assert text_tokenizer.decode(text_tokenizer.encode("a\ud800b")) == "a\ufffdb"

    def test_a_million_blanks(self, text_tokenizer: TextTokenizer) -> None:
        """A blank run that would exhaust the matcher's stack is encoded all the same."""
        text = " " * 1_000_001

        assert text_tokenizer.decode(text_tokenizer.encode(text)) == text


class TestIds:
    def test_three_kinds(self, text_tokenizer: TextTokenizer) -> None:
        """Every id is exactly one of text, sound and control."""
        for token in range(-1, text_tokenizer.audio_offset + text_tokenizer.n_audio + 100):
            kinds = (
                text_tokenizer.is_text(token),
                text_tokenizer.is_audio(token),
                text_tokenizer.is_control(token),
            )
            assert sum(kinds) == 1

    def test_counts(self, golden: Path, text_tokenizer: TextTokenizer) -> None:
        """Where sounds begin, and how many there are, is read from the files."""
        known = json.loads((golden / "manifest.json").read_text())

        assert text_tokenizer.audio_offset == known["lm_ids"]["audio_offset"]
        assert text_tokenizer.n_audio == known["dims"]["tok"]["codebook"]
        assert text_tokenizer.n_ranks == known["lm_ids"]["n_ranks"]

    def test_unknown_special(self, text_tokenizer: TextTokenizer) -> None:
        """A control id that the folder does not have is told with the file."""
        with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: no token '<|nobody|>'"):
            text_tokenizer.special("<|nobody|>")

    @pytest.mark.parametrize("token", [-1, 1_000_000, 2**40])
    def test_unassigned(self, text_tokenizer: TextTokenizer, token: int) -> None:
        """An id without a meaning has no bytes."""
        with pytest.raises(ValueError, match="not assigned"):
            text_tokenizer.decode_bytes(token)


class TestStream:
    @given(text=texts)
    def test_equals_whole(self, text_tokenizer: TextTokenizer, text: str) -> None:
        """Text streamed id by id, or even byte by byte, is the whole text in whole characters."""
        for ids in (text_tokenizer.encode(text), byte_ids(text_tokenizer, text)):
            stream = TextStream(text_tokenizer)
            parts = [stream.push(token) for token in ids]

            assert "".join(parts) + stream.flush() == text
            assert "\ufffd" not in "".join(parts) or "\ufffd" in text

    def test_cut_inside_a_character(self, text_tokenizer: TextTokenizer) -> None:
        """A reply that stops inside a character ends with the replacement character."""
        stream = TextStream(text_tokenizer)
        parts = [stream.push(token) for token in byte_ids(text_tokenizer, "好")[:2]]

        assert parts == ["", ""]
        assert stream.flush() == "\ufffd"


def byte_ids(tokenizer: TextTokenizer, text: str) -> list[int]:
    """One id for each byte of a text."""
    by_byte = {tokenizer.decode_bytes(token): token for token in range(tokenizer.n_ranks)}
    return [by_byte[bytes([byte])] for byte in text.encode()]


class TestBrokenFiles:
    @pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer_config.json"])
    def test_missing(self, golden: Path, tmp_path: Path, name: str) -> None:
        """A missing file is named."""
        (copy_files(golden, tmp_path) / name).unlink()

        with pytest.raises(CheckpointError, match=rf"{name}: no such file"):
            TextTokenizer.load(tmp_path)

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (b"not base64! 7", "line 545 is not 'base64 rank'"),
            (b"AAAAAAAA", "line 545 is not 'base64 rank'"),
            (b"AAAAAAAA x", "line 545 is not 'base64 rank'"),
            (b"AAAAAAAA 7", "ranks are not 0 to 544"),
        ],
    )
    def test_ranks(self, golden: Path, tmp_path: Path, line: bytes, words: str) -> None:
        """A line that is no rank is told by its number."""
        path = copy_files(golden, tmp_path) / "tokenizer.model"
        path.write_bytes(path.read_bytes().rstrip() + b"\n" + line)

        with pytest.raises(CheckpointError, match=rf"tokenizer\.model: {words}"):
            TextTokenizer.load(tmp_path)

    def test_truncated_ranks(self, golden: Path, tmp_path: Path) -> None:
        """A file that lost its end lacks ranks for some bytes."""
        path = copy_files(golden, tmp_path) / "tokenizer.model"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:100]))

        with pytest.raises(CheckpointError, match=r"tokenizer\.model: byte 0x.. has no rank"):
            TextTokenizer.load(tmp_path)

    @pytest.mark.parametrize(
        ("added", "words"),
        [
            ({"9": {"content": "<|new|>"}}, "'9'.*is also a piece of text"),
            ({"9999": {"content": "<|user|>"}}, "'9999'.*is also id 551"),
            ({"x": {"content": "<|new|>"}}, "'x' is not an id with a name"),
            ({"9999": {"content": ""}}, "'9999' is not an id with a name"),
            ({"9999": "<|new|>"}, "'9999' is not an id with a name"),
            ({"9999": {"content": "<|audio_512|>"}}, "audio_512.*expected id 1082, found 9999"),
        ],
    )
    def test_specials(
        self, golden: Path, tmp_path: Path, added: dict[str, object], words: str
    ) -> None:
        """A control token that collides, or has no name, is told by its key."""
        path = copy_files(golden, tmp_path) / "tokenizer_config.json"
        content = json.loads(path.read_text())
        content["added_tokens_decoder"] |= added
        path.write_text(json.dumps(content))

        with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: .*{words}"):
            TextTokenizer.load(tmp_path)

    def test_no_prefix(self, tmp_path: Path) -> None:
        """A folder without the ids every prompt begins with is refused."""
        lines = (base64.b64encode(bytes([n])) + b" %d" % n for n in range(256))
        (tmp_path / "tokenizer.model").write_bytes(b"\n".join(lines))
        decoder = {"256": {"content": "<|audio_0|>"}}
        config = {"added_tokens_decoder": decoder}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

        with pytest.raises(CheckpointError, match=r"no token '\[gMASK\]'"):
            TextTokenizer.load(tmp_path)
