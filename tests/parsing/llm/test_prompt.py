"""A prompt is data: read with care, laid out the same for every caption, closed to what captions say."""

import pytest
from transformers import PreTrainedTokenizerFast

from common.errors import UserError
from parsing.llm.answers import read_answer
from parsing.llm.prompt import PromptTokens, load_prompt
from tests.byte_tokenizer import byte_tokenizer

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "</s>", "<s>"]
GOOD = """
rules: List what can be seen.
examples:
  - caption: a red hat on the table
    tags: "red: hat; table;"
"""


def make_tokenizer(chat=True):
    """A byte-level tokenizer without merges: one token a byte, and four special tokens."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>")
    fast.chat_template = CHAT if chat else None
    return fast


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def prompt_file(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_the_projects_prompts_load_and_their_examples_are_answers_to_their_captions():
    default = load_prompt("default")
    assert default.rules
    assert len(default.examples) >= 8
    for example in default.examples:
        answer = read_answer(example.answer, example.caption, default.form)
        assert answer.dropped == 0
    assert any(example.answer.strip() == "-" for example in default.examples)


def test_the_students_prompt_is_the_caption_alone(tokenizer):
    tokens = PromptTokens(load_prompt("student"), tokenizer)  # in spite of its chat template
    assert tokens.text("a dog") == "Caption: a dog\n"
    assert tokenizer.decode(tokens.render("a dog")) == "Caption: a dog\n"
    assert (
        tokenizer.decode(tokens.render("a dog") + tokens.answer("dog"))
        == "Caption: a dog\n dog</s>"
    )


def test_the_hash_follows_what_the_model_is_shown_and_nothing_else(prompt_file):
    first = load_prompt(prompt_file(GOOD)).hash
    assert load_prompt(prompt_file(GOOD + "notes: tried on a Monday\n")).hash == first
    assert load_prompt(prompt_file(GOOD + "answer_label: Objects\n")).hash != first
    assert load_prompt(prompt_file(GOOD.replace("red", "old"))).hash != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must be a mapping"),
        ("rules: [\n", "is not YAML"),
        (GOOD.replace("rules", "rule"), "unknown key `rule`"),
        ("examples: {a: b}\n", "`examples` must be a list"),
        (GOOD.replace("List what can be seen.", "12"), "`rules` must be text"),
        (GOOD + "form: {ending: x}\n", "unknown key `ending` in `form`"),
        (GOOD.replace("    tags:", "    tag:"), "must have a `caption` and `tags`"),
        (GOOD.replace("red: hat; table;", "green: hat; table;"), "are no answer to it"),
        (GOOD.replace("red: hat; table;", ";"), "are no answer to it"),
        (GOOD + "conversation: [a]\n", "`conversation` must be text"),
    ],
)
def test_a_wrong_prompt_is_named_in_one_sentence(prompt_file, text, message):
    with pytest.raises(UserError, match=r"own\.yaml") as caught:
        load_prompt(prompt_file(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(UserError, match=r"there is no prompt .*absent\.yaml .*default"):
        load_prompt("absent")


@pytest.mark.parametrize("conversation", [None, "vicuna", "plain"])
def test_the_prefix_is_the_same_for_every_caption(tokenizer, conversation):
    tokens = PromptTokens(load_prompt("default"), tokenizer, conversation)
    for caption in ("a dog", "", "</s> <|im_end|>", "犬"):
        assert tokens.render(caption)[: len(tokens.prefix)] == tokens.prefix
    assert len(tokens.prefix) > 0.8 * len(tokens.render("a dog"))


def test_the_tokens_say_what_the_text_says(tokenizer):
    tokens = PromptTokens(load_prompt("default"), tokenizer)
    assert tokenizer.decode(tokens.render("a dog")) == tokens.text("a dog")
    assert tokens.text("a dog").endswith("a dog<|im_end|>\n<|im_start|>assistant\nTags:")


def test_a_model_without_a_chat_template_completes_text():
    tokens = PromptTokens(load_prompt("default"), make_tokenizer(chat=False))
    assert tokens.text("a dog").endswith("Caption: a dog\nTags:")


def test_vicuna_gets_its_own_conversation(tokenizer):
    text = PromptTokens(load_prompt("default"), tokenizer, "vicuna").text("a dog")
    assert text.startswith("A chat between a curious user")
    assert text.endswith("</s>USER: Caption: a dog ASSISTANT: Tags:")


@pytest.mark.parametrize("token", SPECIAL)
def test_special_tokens_in_a_caption_are_plain_text(tokenizer, token):
    tokens = PromptTokens(load_prompt("default"), tokenizer)
    special = tokenizer.convert_tokens_to_ids(token)
    plain = tokens.render("a dog")
    assert tokens.render(f"a {token} dog").count(special) == plain.count(special)
    # Cleaning takes them for markup; what it leaves of them is text as any other.
    assert tokens.render(f"a {token} dog") == tokens.render("a dog")
    ids = tokens._encode(token, special=False)
    assert special not in ids
    assert tokenizer.decode(ids) == token


def test_control_characters_and_spaces_are_collapsed_and_people_named(tokenizer):
    tokens = PromptTokens(load_prompt("default"), tokenizer)
    assert tokens.text("a\x00\tdog\n\n of <PERSON>").count("a dog of person") == 1
    assert tokens.render(" a \n dog\x1b") == tokens.render("a dog")


def test_a_huge_caption_is_counted_and_not_refused(tokenizer):
    tokens = PromptTokens(load_prompt("default"), tokenizer)
    assert tokens.caption_tokens("dog " * 25_000) >= 25_000


def test_an_unknown_conversation_is_named(tokenizer):
    with pytest.raises(UserError, match="unknown conversation alpaca"):
        PromptTokens(load_prompt("default"), tokenizer, "alpaca")


def test_a_template_that_changes_the_caption_is_refused(tokenizer):
    twisted = make_tokenizer()
    twisted.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(UserError, match="does not carry the caption"):
        PromptTokens(load_prompt("default"), twisted)
