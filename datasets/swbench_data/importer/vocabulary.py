"""Tokenizers: tokenizer.json from a GGUF vocabulary, and the plain tables that the C side reads."""

import json

import numpy as np
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from swbench_data.cli import InputError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token types of GGUF

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen's: as above, but every digit is a word.
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")


def gpt2_pieces():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def smollm_pieces():
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2_pieces()])


def split_pieces(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# `tokenizer.ggml.pre` -> (how text is cut before merging, whole words in the vocabulary skip
# merging, Unicode form of the text)
PRE_TOKENIZERS = {
    "gpt-2": (gpt2_pieces, False, None),
    "smollm": (smollm_pieces, False, None),
    "llama-bpe": (lambda: split_pieces(LLAMA3_PATTERN), True, None),
    "qwen2": (lambda: split_pieces(QWEN2_PATTERN), False, normalizers.NFC),
}


def tokenizer_from_gguf(field, bos, where):
    """A tokenizers.Tokenizer from GGUF metadata; field(key, default) reads one key, bos is an id or
    None."""

    def entries(key, kind, default):
        values = field(key, default)
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise InputError(
                f"{where}: {key} is not a list of {kind.__name__}, expected one entry a token"
            )
        return values

    kind = field("tokenizer.ggml.model", None)
    if kind != "gpt2":
        raise InputError(
            f"{where}: tokenizer.ggml.model is {kind!r}, expected 'gpt2' (byte-level BPE); "
            f"import this model from its Hugging Face folder instead"
        )
    pre = field("tokenizer.ggml.pre", None)
    if pre not in PRE_TOKENIZERS:
        raise InputError(
            f"{where}: tokenizer.ggml.pre is {pre!r}, expected one of: "
            f"{', '.join(PRE_TOKENIZERS)}; import this model from its Hugging Face folder instead"
        )
    tokens = entries("tokenizer.ggml.tokens", str, [])
    types = entries("tokenizer.ggml.token_type", int, [NORMAL] * len(tokens))
    merges = [tuple(merge.split(" ")) for merge in entries("tokenizer.ggml.merges", str, [])]
    if len(types) != len(tokens):
        raise InputError(
            f"{where}: tokenizer.ggml.token_type has {len(types)} entries, expected {len(tokens)}, "
            f"one a token"
        )
    while types and types[-1] == UNUSED:  # rows that only pad the embedding
        tokens, types = tokens[:-1], types[:-1]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise InputError(
            f"{where}: tokenizer.ggml.tokens holds a token twice, expected distinct tokens"
        )
    wrong = [merge for merge in merges if len(merge) != 2]
    if wrong:
        raise InputError(
            f"{where}: tokenizer.ggml.merges holds {' '.join(wrong[0])!r}, expected two tokens each"
        )

    pieces, whole_words, form = PRE_TOKENIZERS[pre]
    try:
        tokenizer = Tokenizer(
            models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_words)
        )
    except Exception as error:
        raise InputError(
            f"{where}: tokenizer.ggml.merges do not fit the tokens ({error}), "
            f"expected a byte-level BPE vocabulary"
        ) from None
    if form:
        tokenizer.normalizer = form()
    tokenizer.pre_tokenizer = pieces()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, type in zip(tokens, types)
            if type in (CONTROL, UNKNOWN)
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken(token, special=False, normalized=False)
            for token, type in zip(tokens, types)
            if type == USER_DEFINED
        ]
    )
    if field("tokenizer.ggml.add_bos_token", False) and bos is not None and bos < len(tokens):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[tokens[bos], "$A"], special_tokens=[(tokens[bos], bos)]
        )
    return tokenizer


def load_tokenizer(path):
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise InputError(
            f"{path.name}: {' '.join(str(error).split())}, "
            f"expected a tokenizer.json of Hugging Face tokenizers"
        ) from None


def gpt2_byte_of():
    """GPT-2 writes each byte as one printable character: printable bytes as themselves, others from
    U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    table.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return table


def token_tables(tokenizer, vocab_size, where):
    """token_bytes, token_offsets and token_special: what each id decodes to, for a reader without
    BPE.

    Ids that the model has but the tokenizer does not (padding of the embedding) decode to nothing
    and count as special.
    """
    document = json.loads(tokenizer.to_str())
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [token, score] in the order of ids
        vocabulary = {token: id for id, (token, _) in enumerate(vocabulary)}
    added = {token["id"]: token for token in document["added_tokens"]}
    highest = max([*vocabulary.values(), *added], default=-1)
    if highest >= vocab_size:
        raise InputError(
            f"{where}: the tokenizer has id {highest}, expected ids below vocab_size, {vocab_size}"
        )

    decoder = json.dumps(document.get("decoder"))
    if '"ByteLevel"' in decoder:
        byte_of = gpt2_byte_of()

        def to_bytes(token):
            try:
                return bytes(byte_of[character] for character in token)
            except KeyError as error:
                raise InputError(
                    f"{where}: token {token!r} holds {error}, which stands for no byte, "
                    f"expected a byte-level vocabulary"
                ) from None
    elif '"ByteFallback"' in decoder:

        def to_bytes(token):
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                return bytes.fromhex(token[3:5])
            return token.replace("▁", " ").encode()
    else:
        raise InputError(
            f"{where}: decoder {decoder[:60]}, expected a byte-level or byte-fallback tokenizer"
        )

    pieces = [b""] * vocab_size
    special = np.ones(vocab_size, np.uint8)
    for token, id in vocabulary.items():
        if id not in added:
            pieces[id] = to_bytes(token)
            special[id] = 0
    for id, token in added.items():
        pieces[id] = token["content"].encode()
        special[id] = int(token["special"])
    offsets = np.zeros(vocab_size + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return {
        "token_bytes": np.frombuffer(b"".join(pieces), np.uint8),
        "token_offsets": offsets,
        "token_special": special,
    }
