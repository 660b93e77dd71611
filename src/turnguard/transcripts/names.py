"""Which strings of a message carry no words: the one table, and the rules for identifiers, seals and times.

A reader shows every string to the moderator but those that `wordless` names. Field names and enumerated values come
from the providers' own packages (`vocabulary.json`, written by scripts/vocabulary.py). The few that belong to formats
without such a package stand here.
"""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import re
from contextlib import suppress
from importlib import resources

_VOCABULARY = json.loads(resources.files(__package__).joinpath("vocabulary.json").read_text(encoding="utf-8"))

_OTHER_KEYS = """
    __openai_function_call_ids__ _content _meta _name _role additional_kwargs alt alt_text annotations artifact
    audience b64_json base64 base64_data base64_image blob bucketOwner cache_point cachePoint
    callProviderMetadata citation_metadata citationsContent completion_tokens contextId created created_at
    data-part delta document document_url documents documentUrl dynamic end errorText extra_content extras
    file_url finish_reason generated grounding_metadata groundingMetadata guardContent image image_details
    image_urls images invalid invalid_tool_calls isError item_id json kind lastModified logprob mediaType
    messageId meta metadata mime_details mimeType model_name model_provider non_standard object origin
    original_type output_version parsed parsed_arguments prefix preliminary priority providerExecuted
    providerMetadata providerOptions rawInput reasoning reasoning_content reasoning_details reasoning_text
    reasoningContent reasoningText redactedContent reference_ids referenceTaskIds resource response_metadata
    s3_location s3Location search_results searchResult source_type sourceId start state structured_content
    structuredContent system_fingerprint taskId timestamp tokens tool_call_chunks tool_call_result tool_plan
    tool_use toolCallId toolName toolResult toolUse toolUseId total_tokens uri usage usage_metadata video
"""
_OTHER_VALUES = """
    aac agent ai application/x-ndjson approval-requested approval-responded assistant audio audio/flac audio/mp3
    audio/wav audio_url blob cache_point call chat.completion chat.completion.chunk CHATBOT chatbot
    content-filter content_filter csv data default doc document_url docx done dynamic-tool end end_turn
    error-json error-text file-url flac flv function gif guard_content html human id image-data image-url
    image/avif image/heic image/heif image/jpg input-available input-streaming input_json_delta input_video
    invalid_tool_call json length max_output_tokens max_tokens md media mimetype mkv model
    model_context_window_exceeded mov mp3 mp4 mpeg mpg non_standard ogg opus other output-available
    output-denied output-error output_audio output_image pause_turn pcm16 pptx reasoning reasoning-delta
    reasoning-end reasoning-start reasoning_content reference resource resource_link response server_tool_call
    server_tool_call_chunk server_tool_result source-document source-url start step-start stop stop_sequence
    success success, text-plain text/markdown text_delta thinking_delta three_gp tool tool-call tool-result
    tool_call tool_call_chunk tool_calls tool_plan txt url v0 v1 video video_url wav web webm wmv xls xlsx
"""

KEYS = frozenset(_VOCABULARY["keys"]) | frozenset(_OTHER_KEYS.split())
"""Names of fields that a provider or framework defines."""
VALUES = frozenset(_VOCABULARY["values"]) | frozenset(_OTHER_VALUES.split())
"""Values of enumerations that a provider or framework defines: types, roles, states, reasons."""
SEALS = frozenset(
    {
        "signature",
        "thoughtSignature",
        "thought_signature",
        "encrypted_content",
        "encrypted_index",
        "encrypted_stdout",
        "encrypted_function_output",
        "redactedContent",
        "reasoning_signature",
    }
)
"""Fields that hold opaque bytes which only their provider can read or verify."""
TEXTS = frozenset(
    {
        "text",
        "thinking",
        "reasoning",
        "refusal",
        "transcript",
        "content",
        "output",
        "result",
        "title",
        "summary",
        "name",
    }
)
"""Fields that hold prose, so that a number or a word of the vocabulary in them is text as well."""

_ID_KEY = re.compile(r"(?:^|.*[_\-])(?:ids?|uid|uuid|index|fingerprint|hash|digest|etag)$|.*(?:Id|Ids|ID)$")
_ID = re.compile(r"[A-Za-z0-9_.:/@+=\-]{1,256}")
_SEPARATORS = re.compile(r"[_.:/@+=\-]+")
_PREFIXES_OF_IDS = """
    ap artifact asst batch bot call chatcmpl chunk ci cntr comp container ctc cu fc file fs gen ig item lc mcp
    mcpl mcpr mcptoolu message msg req resp rs run sh srvtoolu step task thread tool toolu tooluse user ws
"""
_PREFIXES = frozenset(_PREFIXES_OF_IDS.split())
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+\-]\d\d:?\d\d)?)?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WORD = re.compile(r"[a-z]{4,}|[A-Z]{4,}|[A-Z][a-z]{3,}")
_MEDIA_TYPES = frozenset(mimetypes.types_map.values()) | frozenset(mimetypes.common_types.values())
_SEAL = re.compile(r"[A-Za-z0-9+/_\-]*={0,2}")
_RANDOM_FROM = 16
"""Characters from which the share of word-like runs tells random text from prose."""
_MOST_WORDS = 0.5
"""Random base64 has about 0.16 of its characters in runs of four letters of one case; prose has 0.7 and more."""


def known_key(key: str) -> bool:
    """Whether a field's name is one that a format defines, or holds no words."""
    return key in KEYS or is_identifier(key)


def wordless(key: str, value: str) -> bool:
    """Whether the string under this field holds no words that anyone could read."""
    if not value or value.isspace():
        return True
    if key in SEALS:
        return is_seal(value)
    if key in TEXTS:
        return False
    if value in VALUES or value in _MEDIA_TYPES or _TIME.fullmatch(value) is not None:
        return True
    return _ID_KEY.fullmatch(key) is not None and is_identifier(value)


def is_identifier(value: str) -> bool:
    """Whether a string is in the form of a known generator of identifiers: short counters, UUIDs, hashes, random tails
    behind a known prefix. Anything that could be read as a word is none.
    """
    if _ID.fullmatch(value) is None:
        return False
    pieces = [piece for piece in _SEPARATORS.split(_UUID.sub("", value)) if piece]
    while pieces and pieces[0] in _PREFIXES:
        del pieces[0]
    return all(map(_is_wordless_piece, pieces))


def _is_wordless_piece(piece: str) -> bool:
    if len(piece) <= 3 or piece.isdigit():
        return True
    if len(piece) >= _RANDOM_FROM:
        return is_seal(piece)
    if any(letter.isdigit() for letter in piece):
        return _WORD.search(piece) is None or _is_hex(piece)
    return len(piece) <= 12 and _WORD.search(piece) is None


def _is_hex(piece: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in piece)


def is_seal(value: str) -> bool:
    """Whether a string is opaque: random base64 or hexadecimal that decodes to no words."""
    if _SEAL.fullmatch(value) is None:
        return False
    if len(value) < _RANDOM_FROM:
        return is_identifier(value) and not _decodes_to_words(value)
    in_words = sum(len(match[0]) for match in _WORD.finditer(value))
    return in_words < _MOST_WORDS * len(value) and not _decodes_to_words(value)


def _decodes_to_words(value: str) -> bool:
    """Whether base64 or hexadecimal gives text of a few letters."""
    plain = value.rstrip("=").replace("-", "+").replace("_", "/")
    decoded = [b""]
    with suppress(binascii.Error, ValueError):
        decoded.append(base64.b64decode(plain + "=" * (-len(plain) % 4)))
    if len(value) % 2 == 0 and all(letter in "0123456789abcdefABCDEF" for letter in value):
        decoded.append(bytes.fromhex(value))
    return any(map(_is_text, decoded))


def _is_text(data: bytes) -> bool:
    if len(data) < 6:
        return False
    printable = sum(32 <= byte < 127 or byte in (9, 10, 13) for byte in data)
    letters = sum(byte | 32 in range(97, 123) or byte == 32 for byte in data)
    if printable >= 0.9 * len(data) and letters >= 0.5 * len(data):
        return True
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return sum(character.isalpha() for character in text) >= 0.6 * len(text)
