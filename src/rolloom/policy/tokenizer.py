"""Text to tokens and back, and the chat template: the only place where a conversation becomes token ids.

A conversation is tokenised once, piece by piece: the prompt when an episode starts, then only what the
environment adds. Sampled tokens are kept as sampled and never decoded and encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from rolloom.policy.config import PolicyError

SENTINEL = "\u2402reply\u2402"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


class ChatTokenizer:
    """A `tokenizers` file with the chat template of its checkpoint.

    Attributes:
        stop_ids: tokens that end a completion.
        opens_thinking: the generation prompt already contains `<think>`, so a completion starts inside it.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, eos_token: str) -> None:
        self.tokenizer = tokenizer
        self.eos_token = eos_token
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(template)
        self.template_text = template
        eos = tokenizer.token_to_id(eos_token)
        if eos is None:
            raise PolicyError(f"eos_token: {eos_token!r} is not in the tokenizer's vocabulary")
        self.stop_ids = (eos,)
        self.think_close_id = tokenizer.token_to_id(THINK_CLOSE)
        self._control_tokens = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        prompt = self.render([{"role": "user", "content": "u"}])
        self.opens_thinking = prompt.rstrip().endswith(THINK_OPEN)
        self._thinking_prefix = THINK_OPEN + "\n" if self.opens_thinking else ""

    @classmethod
    def load(cls, path: str | Path) -> ChatTokenizer:
        """Read `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` of a checkpoint directory.

        Raises:
            PolicyError: a file is missing or malformed, or there is no chat template.
        """
        directory = Path(path)
        file, config_file = directory / "tokenizer.json", directory / "tokenizer_config.json"
        for required in (file, config_file):
            if not required.is_file():
                raise PolicyError(f"expected {required.name} in {directory}, found none")
        try:
            config = json.loads(config_file.read_text())
            eos = config.get("eos_token")
        except (ValueError, AttributeError) as error:
            raise PolicyError(f"{config_file} is malformed: {error}") from error
        template_file = directory / "chat_template.jinja"
        template = template_file.read_text() if template_file.is_file() else config.get("chat_template")
        if not template:
            raise PolicyError(f"{directory} has no chat template: expected chat_template.jinja")
        eos = eos.get("content") if isinstance(eos, dict) else eos
        if not isinstance(eos, str):
            raise PolicyError(f"{config_file}: eos_token: expected a token, got {eos!r}")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise PolicyError(f"{file} is malformed: {error}") from error
        return cls(tokenizer, template, eos)

    def save(self, directory: Path) -> None:
        """Write the files `load` and transformers' AutoTokenizer read."""
        self.tokenizer.save(str(directory / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.eos_token,
            "pad_token": self.tokenizer.id_to_token(0),
            "clean_up_tokenization_spaces": False,
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        (directory / "chat_template.jinja").write_text(self.template_text)

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of trusted text: special tokens written out in it are recognised."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones included."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Iterable[Any] = (), generate: bool = True
    ) -> str:
        """Apply the chat template; `tools` are OpenAI function dicts or objects with `to_openai`."""
        functions = [tool.to_openai() if hasattr(tool, "to_openai") else tool for tool in tools]
        return self._template.render(
            messages=[dict(message) for message in messages],
            tools=functions or None,
            add_generation_prompt=generate,
            enable_thinking=True,
        )

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Iterable[Any] = ()) -> list[int]:
        """Token ids of the opening of an episode, generation prompt included."""
        return self.encode(self.render([self._defuse(m) for m in messages], tools))

    def continuation_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids from the stop token of a completion, itself excluded, to the next generation prompt.

        Raises:
            PolicyError: the template does not write assistant content as it is given.
        """
        opening = [{"role": "user", "content": "u"}, {"role": "assistant", "content": SENTINEL}]
        text = self.render([*opening, *[self._defuse(m) for m in messages]])
        _, found, tail = text.partition(SENTINEL)
        if not found or not tail.startswith(self.eos_token):
            raise PolicyError(
                "the chat template must write assistant content verbatim, followed by the eos token"
            )
        return self.encode(tail[len(self.eos_token) :])

    def completion_text(self, ids: Sequence[int]) -> str:
        """What the environment reads of sampled tokens: without the stop token, with the opened think tag."""
        body = list(ids)
        if body and body[-1] in self.stop_ids:
            body.pop()
        return self._thinking_prefix + self.decode(body)

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of a demonstration as the policy would have sampled it, stop token included."""
        if self._thinking_prefix and text.startswith(self._thinking_prefix):
            text = text[len(self._thinking_prefix) :]
        return [*self.encode(text), self.stop_ids[0]]

    def _defuse(self, message: Mapping[str, Any]) -> dict[str, Any]:
        # Environment text may quote a policy or a hostile document: control tokens in it become plain
        # characters.
        content = str(message["content"])
        for token in self._control_tokens:
            if token in content:
                content = content.replace(token, token[0] + "\u200b" + token[1:])
        return {**message, "content": content}
