"""Text to tokens and back, and the chat template: the only place where a conversation becomes token ids.

A conversation is tokenised once, piece by piece: the prompt when an episode starts, then only what the
environment adds. Sampled tokens are kept as sampled and never decoded and encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from rolloom.policy.chat_template import compile_template, pick_template
from rolloom.policy.config import PolicyError

SENTINEL = "\u2402reply\u2402"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


class ChatTokenizer:
    """A `tokenizers` file with the chat template of its checkpoint.

    Args:
        tokenizer: text to tokens.
        template: chat template.
        eos_token: the token a completion ends with.
        settings: of `tokenizer_config.json`; kept when saved.
        stops: further tokens that end a completion.

    Attributes:
        stop_ids: tokens that end a completion; the first is the one that ends a turn in the template.
        opens_thinking: the generation prompt already contains `<think>`, so a completion starts inside it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        eos_token: str,
        settings: Mapping[str, Any] | None = None,
        stops: Iterable[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.eos_token = eos_token
        self.settings = {"eos_token": eos_token, **(settings or {})}
        self._template = compile_template(template, _special_tokens(self.settings))
        self.template_text = template
        eos = tokenizer.token_to_id(eos_token)
        if eos is None:
            raise PolicyError(f"eos_token: {eos_token!r} is not in the tokenizer's vocabulary")
        self.think_close_id = tokenizer.token_to_id(THINK_CLOSE)
        self._control_tokens = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self.turn_end = self._find_turn_end()
        turn_end = tokenizer.token_to_id(self.turn_end)
        assert turn_end is not None
        self.stop_ids = tuple(dict.fromkeys((turn_end, eos, *stops)))
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
        held = config.pop("chat_template", None)
        template = template_file.read_text() if template_file.is_file() else pick_template(held)
        if not template:
            raise PolicyError(f"{directory} has no chat template: expected chat_template.jinja")
        eos = eos.get("content") if isinstance(eos, dict) else eos
        if not isinstance(eos, str):
            raise PolicyError(f"{config_file}: eos_token: expected a token, got {eos!r}")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise PolicyError(f"{file} is malformed: {error}") from error
        return cls(tokenizer, template, eos, config, _generation_stops(directory))

    def save(self, directory: Path) -> None:
        """Write the files `load` and transformers' AutoTokenizer read."""
        self.tokenizer.save(str(directory / "tokenizer.json"))
        plain = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": self.tokenizer.id_to_token(0),
            "clean_up_tokenization_spaces": False,
        }
        config = self.settings if "tokenizer_class" in self.settings else {**plain, **self.settings}
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
        if not found or not tail.startswith(self.turn_end):
            raise PolicyError(
                "the chat template must write assistant content verbatim, followed by the eos token"
            )
        return self.encode(tail[len(self.turn_end) :])

    def _find_turn_end(self) -> str:
        """Return the control token the template writes after a completion; eos where it writes none."""
        opening = [{"role": "user", "content": "u"}, {"role": "assistant", "content": SENTINEL}]
        tail = self.render(opening, generate=False).partition(SENTINEL)[2]
        ends = [token for token in self._control_tokens if token and tail.startswith(token)]
        return max(ends, key=len, default=self.eos_token)

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


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the tokens that templates may name, from the settings of a tokenizer."""
    texts = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in settings.items()
        if name.endswith("_token")
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _generation_stops(directory: Path) -> list[int]:
    """Return the tokens that `generation_config.json` stops at, where there is one."""
    file = directory / "generation_config.json"
    if not file.is_file():
        return []
    try:
        stops = json.loads(file.read_text()).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise PolicyError(f"{file} is malformed: {error}") from error
    listed = stops if isinstance(stops, list) else [stops]
    return [stop for stop in listed if isinstance(stop, int)]
