"""Trains the tokenizer of a small policy: byte-level BPE over demonstrations, every digit its own token."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from rolloom.policy.tokenizer import ChatTokenizer

EOS = "<|im_end|>"
SPECIAL = ("<|pad|>", "<|im_start|>", EOS, "<think>", "</think>", "<tool_call>", "</tool_call>")
PIECES = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> ChatTokenizer:
    """Learn merges from texts. Any string survives a round trip, because every byte is in the vocabulary.

    Args:
        texts: rendered conversations.
        vocab_size: upper limit, special tokens included.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    template = resources.files("rolloom.policy").joinpath("template.jinja").read_text()
    return ChatTokenizer(tokenizer, template, EOS)
