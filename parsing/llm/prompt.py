"""The prompt: rules and examples from `prompts/NAME.yaml`, as text and as token ids.

Rules and examples come first and are the same for every caption, so that prefix caching pays for
them once. The caption is turned into tokens apart from the text around it, with the tokenizer's
special tokens switched off: whatever a caption says, it can't end its own turn.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from parsing.llm.answers import Form, read_answer
from parsing.source.cleaning import clean

FOLDER = Path(__file__).resolve().parents[2] / "prompts"

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_HERE = "\ue000"  # a private character: stands where the caption goes while text is laid out


@dataclass(frozen=True)
class Example:
    """A caption and the answer expected of the model, as text."""

    caption: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """What the model is shown besides the caption.

    Attributes:
        rules: what to list and what to leave out. A model that was trained for the task needs none.
        examples: captions with their answers, in the order shown.
        form: how an answer is written.
        caption_label, answer_label: what stands before a caption and before an answer.
        conversation: a layout of `PromptTokens`; None leaves it to the model.
        notes: for the reader; never shown to the model and not part of the hash.
    """

    rules: str = ""
    examples: tuple[Example, ...] = ()
    form: Form = field(default_factory=Form)
    conversation: str | None = None
    caption_label: str = "Caption:"
    answer_label: str = "Tags:"
    notes: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of everything that the model is shown, in hex."""
        content = asdict(self)
        del content["notes"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prompt_path(name_or_path: str) -> Path:
    """`prompts/NAME.yaml` for a bare name, else the path itself."""
    bare = Path(name_or_path).name == name_or_path and not name_or_path.endswith((".yaml", ".yml"))
    return FOLDER / f"{name_or_path}.yaml" if bare else Path(name_or_path)


def load_prompt(name_or_path: str) -> Prompt:
    """Reads `prompts/NAME.yaml`, or the YAML file at a path.

    Raises:
        UserError: there is no such file, or it isn't a prompt; the sentence names the file and
            what is wrong.
    """
    path = prompt_path(name_or_path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise UserError(f"there is no prompt {path} (prompts here: {known})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the prompt {path}: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the prompt {path} is not YAML: {reason}") from error
    try:
        return _prompt(data)
    except (TypeError, ValueError) as error:
        raise UserError(f"the prompt {path} is not valid: {error}") from error


def _prompt(data: Any) -> Prompt:
    if not isinstance(data, dict):
        raise ValueError("it must be a mapping, of `rules` and `examples` as a rule")
    known = {each.name for each in fields(Prompt)}
    if unknown := sorted(map(str, set(data) - known)):
        raise ValueError(f"unknown key `{unknown[0]}` (keys: {', '.join(sorted(known))})")
    form = _form(data.get("form") or {})
    names = ("rules", "caption_label", "answer_label", "conversation", "notes")
    texts = {key: data[key] for key in names if key in data}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"`{key}` must be text")
    texts["rules"] = texts.get("rules", "").strip()
    examples = data.get("examples") or []
    if not isinstance(examples, list):
        raise ValueError("`examples` must be a list of captions with their tags")
    return Prompt(examples=tuple(_example(e, form) for e in examples), form=form, **texts)


def _form(data: Any) -> Form:
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise ValueError("`form` must be a mapping of names to text")
    if unknown := sorted(map(str, set(data) - {each.name for each in fields(Form)})):
        raise ValueError(f"unknown key `{unknown[0]}` in `form`")
    return Form(**data)


def _example(data: Any, form: Form) -> Example:
    """Reads `caption: ...` with `tags: ...`, the answer as the model is to write it."""
    if not isinstance(data, dict) or set(data) != {"caption", "tags"}:
        raise ValueError("every example must have a `caption` and `tags`")
    caption, tags = data["caption"], data["tags"]
    if not isinstance(caption, str) or not isinstance(tags, str):
        raise ValueError(f"caption and tags of the example {str(caption)!r} must be text")
    answer = read_answer(tags, clean(caption), form)
    if answer.dropped or not (answer.objects or tags.strip() == form.nothing):
        raise ValueError(
            f"the tags of the example {caption!r} are no answer to it: {tags!r} must list words of "
            f"the caption, or be `{form.nothing}`"
        )
    return Example(clean(caption), f" {tags.strip()}")


class PromptTokens:
    """Lays a prompt out for one tokenizer.

    Args:
        prompt: rules, examples and form.
        tokenizer: a fast Hugging Face tokenizer.
        conversation: where the prompt names none: None for the tokenizer's own chat template, or
            plain completion where it has none; "vicuna" for the conversation of Vicuna v1.1;
            "plain" for plain completion.

    Attributes:
        prefix: token ids, the same for every caption.
        stop: strings that end an answer, besides the model's own end of a turn.

    Raises:
        UserError: an unknown conversation, or a chat template that can't lay out a caption.
    """

    def __init__(self, prompt: Prompt, tokenizer: Any, conversation: str | None = None):
        self.prompt, self.tokenizer = prompt, tokenizer
        conversation = prompt.conversation or conversation
        if conversation is None:
            conversation = "template" if tokenizer.chat_template else "plain"
        if conversation not in _LAYOUTS:
            raise UserError(f"unknown conversation {conversation} (known: {', '.join(_LAYOUTS)})")
        layout = _LAYOUTS[conversation](prompt, tokenizer)
        if layout.count(_HERE) != 1:
            raise UserError(
                "the chat template of the model does not carry the caption over as it is"
            )
        before, after = layout.split(_HERE)
        self._before, self._after = before.removesuffix(" "), after
        # A chat template writes its own first token; elsewhere the tokenizer knows whether it has one.
        self.prefix: list[int] = tokenizer.encode(
            self._before, add_special_tokens=conversation != "template"
        )
        self._suffix = self._continue(after, special=True)
        self.stop = ["\n"]

    def render(self, caption: str) -> list[int]:
        """Token ids of the whole prompt for one caption, a list of int."""
        return self.prefix + self._caption(caption) + self._suffix

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer that follows `render`, with the end of the turn: a training target."""
        return [*self._continue(f" {text}", special=False), self.tokenizer.eos_token_id]

    def text(self, caption: str) -> str:
        """The same as text, to be read by a person."""
        return f"{self._before} {clean(caption)}{self._after}"

    def caption_tokens(self, caption: str) -> int:
        """How many tokens the caption itself takes."""
        return len(self._caption(caption))

    def _caption(self, caption: str) -> list[int]:
        return self._continue(f" {clean(caption)}", special=False)

    def _continue(self, text: str, special: bool) -> list[int]:
        """Token ids of text that goes on after other text: sentencepiece puts a space at a start."""
        anchor = self._encode(":", special=False)
        ids = self._encode(f":{text}", special=special)
        if ids[: len(anchor)] == anchor:
            return ids[len(anchor) :]
        return self._encode(text, special=special)

    def _encode(self, text: str, special: bool) -> list[int]:
        return self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=not special
        )


class PromptText:
    """Lays a prompt out for a server that has the tokenizer, and the chat template, itself.

    Attributes:
        is_chat: whether the server lays the turns out; else it completes a text.
        stop: strings that end an answer, besides the model's own end of a turn.
    """

    def __init__(self, prompt: Prompt):
        self.prompt = prompt
        self.is_chat = prompt.conversation in (None, "template")
        self.stop = ["\n"]
        if not self.is_chat:
            if prompt.conversation not in _LAYOUTS:
                known = ", ".join(_LAYOUTS)
                raise UserError(f"unknown conversation {prompt.conversation} (known: {known})")
            before, self._after = _LAYOUTS[prompt.conversation](prompt, None).split(_HERE)
            self._before = before.removesuffix(" ")

    def text(self, caption: str) -> str:
        """What is to be completed; the text of `PromptTokens.render`."""
        return f"{self._before} {clean(caption)}{self._after}"

    def messages(self, caption: str) -> list[dict[str, str]]:
        """The turns of a chat, each with `role` and `content`.

        The answer's label is left out: a server cannot be told how an answer begins.
        """
        shown = [*self.prompt.examples, Example(clean(caption), "")]
        found = []
        for example in shown:
            asked = f"{self.prompt.caption_label} {example.caption}"
            found.append({"role": "user", "content": asked})
            found.append({"role": "assistant", "content": example.answer.strip()})
        found[0]["content"] = _after_rules(self.prompt, found[0]["content"])
        return found[:-1]


def _turns(prompt: Prompt) -> list[tuple[str, str]]:
    """(caption, answer) with their labels; the last answer is only its label."""
    shown = [
        (f"{prompt.caption_label} {e.caption}", f"{prompt.answer_label}{e.answer}")
        for e in prompt.examples
    ]
    return [*shown, (f"{prompt.caption_label} {_HERE}", prompt.answer_label)]


def _template(prompt: Prompt, tokenizer: Any) -> str:
    # The rules open the first turn: not every template has a place for a system message.
    messages = []
    for caption, answer in _turns(prompt):
        messages += [{"role": "user", "content": caption}, {"role": "assistant", "content": answer}]
    messages[0]["content"] = _after_rules(prompt, messages[0]["content"])
    label = messages.pop()["content"]
    return (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + label
    )


def _vicuna(prompt: Prompt, tokenizer: Any) -> str:
    end = (tokenizer and tokenizer.eos_token) or "</s>"
    turns = [f"USER: {caption} ASSISTANT: {answer}" for caption, answer in _turns(prompt)]
    first = turns[0].removeprefix("USER: ")
    turns[0] = f"USER: {_after_rules(prompt, first)}"
    return f"{VICUNA_SYSTEM} {end.join(turns)}"


def _plain(prompt: Prompt, tokenizer: Any) -> str:
    blocks = [f"{caption}\n{answer}" for caption, answer in _turns(prompt)]
    return _after_rules(prompt, "\n\n".join(blocks))


def _after_rules(prompt: Prompt, text: str) -> str:
    return f"{prompt.rules}\n\n{text}" if prompt.rules else text


_LAYOUTS = {"template": _template, "vicuna": _vicuna, "plain": _plain}
