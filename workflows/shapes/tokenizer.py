"""A tokenizer of the small world's own words: whole words where it knows them, else their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

PADDING, START, END = "<padding>", "<start>", "<end>"
CONTEXT = 32  # tokens


def train_tokenizer(captions: Iterable[str], words: int = 1022) -> PreTrainedTokenizerFast:
    """Byte-pair encoding in lower case; all bytes are tokens, so that every text can be encoded.

    The end of a text has the highest id, because open_clip reads a text's features at the largest id.
    Padding is 0.

    Args:
        captions: texts to learn from.
        words: tokens without start and end; fewer where the captions hold no more.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=words,
            special_tokens=[PADDING],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens([START, END])
    ends = [(one, tokenizer.token_to_id(one)) for one in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        bos_token=START,
        eos_token=END,
        model_max_length=CONTEXT,
        padding_side="right",
        truncation_side="right",
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the files that open_clip's HFTokenizer reads."""
    tokenizer.save_pretrained(folder)
